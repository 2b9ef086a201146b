/** People, events and pictures as they come, over one WebSocket that connects again when it was lost. */

const PAUSES_MS = [500, 1000, 2000, 4000, 8000];
const SILENT_MS = 20000;

export class Stream {
  #socket = null;
  #timer = null;
  #watch = null;
  #failures = 0;
  #wanted = false;

  /** `heard` takes poses, event, picture and state, each a function. */
  constructor(heard) {
    this.heard = heard;
    this.pictures = true;
  }

  open() {
    this.#wanted = true;
    this.#connect();
  }

  close() {
    this.#wanted = false;
    this.#drop();
  }

  /** Connects anew, with pictures or without. */
  show(pictures) {
    this.pictures = pictures;
    if (this.#wanted) this.#connect();
  }

  #connect() {
    this.#drop();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/poses/stream?events=1&pictures=${this.pictures ? 1 : 0}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#failures = 0;
      this.heard.state("open");
    };
    socket.onmessage = (message) => {
      this.#listen(socket);
      if (typeof message.data === "string") this.#text(message.data);
      else this.#binary(message.data);
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#again();
    };
    this.#socket = socket;
    this.#listen(socket);
  }

  /** A network that went away says nothing: after a while that is taken for a loss. */
  #listen(socket) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => socket.close(), SILENT_MS);
  }

  #again() {
    this.#socket = null;
    clearTimeout(this.#watch);
    this.heard.state("lost");
    const pause = PAUSES_MS[Math.min(this.#failures, PAUSES_MS.length - 1)] * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #text(text) {
    const value = JSON.parse(text);
    if ("people" in value) this.heard.poses(value);
    else this.heard.event(value);
  }

  /** Four bytes with the length of a JSON header, the header, the JPEG. */
  #binary(buffer) {
    const length = new DataView(buffer).getUint32(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.heard.picture(header, new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }));
  }
}
