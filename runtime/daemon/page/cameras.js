/** The cards of the cameras. */

import { draw, fitted } from "./drawing.js";

const KEPT = 90;
const REFRESH_MS = 250;
const OLD_MS = 2000;
const SMOOTH = 0.15;
const STAGES = ["waiting", "preprocessing", "inference", "parsing"];
const TITLES = { connecting: "Connecting", lost: "Lost", disabled: "Switched off" };

export class Cameras {
  #cards = new Map();

  /** `misfit` is called where people have other keypoints than the skeleton, which is then null. */
  constructor(room, template, announce, misfit) {
    Object.assign(this, { room, template, announce, misfit, skeleton: null, pictures: true });
    setInterval(() => this.#cards.forEach((card) => card.refresh()), REFRESH_MS);
    new ResizeObserver(() => this.#cards.forEach((card) => card.redraw())).observe(room);
  }

  /** What /api/status says of all of them. */
  update(states) {
    for (const state of states) {
      if (!this.#cards.has(state.name)) this.#add(state.name);
      this.#cards.get(state.name).update(state);
    }
    const names = new Set(states.map((state) => state.name));
    for (const [name, card] of this.#cards) {
      if (names.has(name)) continue;
      card.element.remove();
      this.#cards.delete(name);
    }
    this.room.dataset.count = this.#cards.size;
  }

  poses(result) {
    const keypoints = result.people[0]?.keypoints.length;
    if (this.skeleton && keypoints && keypoints !== this.skeleton.keypoints.length) {
      this.skeleton = null; // nobody is drawn until the right one is there
      this.misfit();
    }
    this.#cards.get(result.camera)?.poses(result);
  }

  picture(header, blob) {
    this.#cards.get(header.camera)?.picture(header, blob);
  }

  show(pictures) {
    this.pictures = pictures;
    this.#cards.forEach((card) => card.forget());
  }

  #add(name) {
    const card = new Card(name, this);
    this.#cards.set(name, card);
    this.room.append(card.element);
  }
}

class Card {
  #results = new Map();
  #newest = null;
  #shown = null;
  #arrived = 0;
  #decoding = false;
  #next = null;
  #stages = null;
  #frame = 0;

  constructor(name, cameras) {
    this.cameras = cameras;
    this.name = name;
    this.element = cameras.template.content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    this.canvas = find("canvas");
    this.veil = find(".veil");
    this.bar = find(".stages");
    this.legend = find(".legend");
    find("h2").textContent = name;
    this.canvas.setAttribute("aria-label", `${name}: no picture yet`);
    const button = find(".enlarge");
    button.setAttribute("aria-label", `Enlarge ${name}`);
    button.addEventListener("click", () => this.#enlarge(button));
    this.#makeStages();
  }

  update(state) {
    const before = this.element.dataset.condition;
    this.state = state;
    this.element.dataset.condition = state.condition;
    this.element.querySelector(".word").textContent = state.condition === "disabled" ? "off" : state.condition;
    if (before !== state.condition && this.told) {
      this.cameras.announce(`${this.name}: ${state.condition}${state.reason ? `, ${state.reason}` : ""}`);
    }
    this.told = true;
    this.#cover(state);
    if (state.size_wh) this.#setSize(state.size_wh);
    this.#number("fps", state.condition === "disabled" ? "–" : state.fps.toFixed(1));
    this.#number("dropped", share(state), "%");
    this.element.querySelector('[data-number="dropped"]').title = `${state.dropped} of ${state.captured} frames were replaced by newer ones`;
  }

  poses(result) {
    this.#results.set(result.index, result);
    if (this.#results.size > KEPT) this.#results.delete(this.#results.keys().next().value);
    this.#newest = result;
    this.#arrived = performance.now();
    for (const stage of STAGES) {
      const ms = result.stages_ms[stage] ?? 0;
      this.#stages ??= { ...result.stages_ms };
      this.#stages[stage] += SMOOTH * (ms - this.#stages[stage]);
    }
    if (!this.cameras.pictures) this.#paint(null, result);
  }

  /** The newest wins while one is being decoded. */
  async picture(header, blob) {
    if (this.#decoding) {
      this.#next = [header, blob];
      return;
    }
    this.#decoding = true;
    try {
      const picture = await createImageBitmap(blob);
      if (this.cameras.pictures) this.#paint(picture, this.#results.get(header.index) ?? { people: [], size: header.size });
      else picture.close();
    } catch (error) {
      console.warn(`${this.name}: a picture could not be decoded`, error);
    }
    this.#decoding = false;
    const next = this.#next;
    this.#next = null;
    if (next) this.picture(...next);
  }

  /** Numbers change a few times a second: more cannot be read. */
  refresh() {
    const silent = performance.now() - this.#arrived;
    if (!this.#newest) return;
    const old = silent > this.#patience();
    this.#number("people", old ? "–" : String(this.#newest.people.length));
    this.#number("age", old ? (silent / 1000).toFixed(0) : this.#newest.age_ms.toFixed(0), old ? "s" : "ms");
    this.canvas.setAttribute("aria-label", `${this.name}: ${old ? "nothing new" : people(this.#newest.people.length)}`);
    this.#showStages();
  }

  /** A camera that is to give few frames is waited for. */
  #patience() {
    return this.state?.condition === "live" && this.state.fps ? Math.max(OLD_MS, 3000 / this.state.fps) : OLD_MS;
  }

  redraw() {
    if (this.#shown && fitted(this.canvas)) this.#repaint();
  }

  forget() {
    this.#shown?.picture?.close();
    this.#shown = null;
    if (this.#newest) this.#paint(null, this.#newest);
  }

  #paint(picture, result) {
    if (this.#shown?.picture && this.#shown.picture !== picture) this.#shown.picture.close();
    this.#shown = { picture, result };
    this.#setSize(result.size);
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#repaint());
  }

  #repaint() {
    this.#frame = 0;
    if (!this.#shown) return;
    const { picture, result } = this.#shown;
    draw(this.canvas, picture, result.people, result.size, this.cameras.skeleton);
  }

  #setSize(size) {
    this.element.style.setProperty("--ratio", `${size[0]} / ${size[1]}`);
  }

  #cover(state) {
    const title = TITLES[state.condition];
    this.veil.hidden = !title;
    this.veil.querySelector("strong").textContent = title ?? "";
    this.veil.querySelector("span").textContent = state.reason;
  }

  #number(name, value, unit = "") {
    const place = this.element.querySelector(`[data-number="${name}"]`);
    const said = value === "–" ? value : value + unit;
    if (place.dataset.said === said) return;
    place.dataset.said = said;
    place.textContent = value;
    if (unit && value !== "–") place.append(Object.assign(document.createElement("small"), { textContent: unit }));
  }

  #makeStages() {
    for (const stage of STAGES) {
      const part = document.createElement("i");
      part.dataset.stage = stage;
      part.style.flexGrow = 0;
      this.bar.append(part);
      const entry = document.createElement("li");
      const mark = document.createElement("i");
      mark.dataset.stage = stage;
      entry.append(mark, stage, document.createElement("b"));
      this.legend.append(entry);
    }
  }

  #showStages() {
    STAGES.forEach((stage, index) => {
      const ms = this.#stages[stage];
      this.bar.children[index].style.flexGrow = ms;
      this.legend.children[index].lastChild.textContent = ` ${ms.toFixed(ms < 9.95 ? 1 : 0)} ms`;
    });
    this.bar.setAttribute("aria-label", STAGES.map((stage) => `${stage} ${this.#stages[stage].toFixed(1)} ms`).join(", "));
  }

  #enlarge(button) {
    const large = this.element.classList.toggle("large");
    button.setAttribute("aria-pressed", String(large));
    if (large) this.element.scrollIntoView({ block: "nearest" });
  }
}

const share = (state) => (state.captured ? ((100 * state.dropped) / state.captured).toFixed(state.dropped ? 1 : 0) : "–");
const people = (count) => (count === 1 ? "one person" : `${count || "no"} people`);
