/** Events, health and log. */

const MOST_EVENTS = 100;
const KINDS = { presence: "Presence", fall: "Fall", hand_raised: "Hand raised" };
const STATES = { started: "began", ended: "ended", changed: "changed", happened: "" };
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const counts = new Intl.NumberFormat();

const element = (name, text, attributes = {}) => Object.assign(document.createElement(name), { textContent: text, ...attributes });

export class Events {
  constructor(list, empty, announce) {
    Object.assign(this, { list, empty, announce });
  }

  /** Newest first; those that are shown stay, each once. */
  fill(events) {
    const shown = new Map([...this.list.children].map((item) => [item.dataset.key, item]));
    const told = events.filter((event) => !shown.has(JSON.stringify(event))).map(entry);
    const all = [...shown.values(), ...told].sort((a, b) => b.dataset.at - a.dataset.at);
    this.list.replaceChildren(...all.slice(0, MOST_EVENTS));
    this.empty.hidden = all.length > 0;
  }

  add(event) {
    if (![...this.list.children].some((item) => item.dataset.key === JSON.stringify(event))) this.list.prepend(entry(event));
    while (this.list.children.length > MOST_EVENTS) this.list.lastChild.remove();
    this.empty.hidden = true;
    if (event.kind !== "presence") this.announce(`${event.camera}: ${said(event)}`);
  }
}

function entry(event) {
  const at = new Date(event.at * 1000);
  const item = document.createElement("li");
  Object.assign(item.dataset, { kind: event.kind, at: event.at, key: JSON.stringify(event) });
  const what = document.createElement("span");
  what.append(element("strong", title(event.kind)), ` ${rest(event)}`);
  const where = event.zone ? `${event.camera}, ${event.zone}` : event.camera;
  item.append(element("time", clock.format(at), { dateTime: at.toISOString() }), what, element("span", where, { className: "where" }));
  return item;
}

const title = (kind) => KINDS[kind] ?? kind.replaceAll("_", " ");
const said = (event) => `${title(event.kind)} ${rest(event)}`.trim();

function rest(event) {
  const parts = [STATES[event.state] ?? event.state];
  if (event.count !== null && event.count !== undefined) parts.push(event.count === 1 ? "one person" : `${event.count} people`);
  else if (event.person !== null && event.person !== undefined) parts.push(`person ${event.person}`);
  return parts.filter(Boolean).join(", ");
}

export function showHealth(list, title, room, status) {
  const engine = status.engine;
  facts(list, [
    ["Engine", `${engine.backend} on ${engine.device}`],
    ["Arithmetic", Object.entries(engine.precisions).map(([name, layers]) => `${layers} layers ${name}`).join(", ")],
    ["Cameras", `${status.cameras.filter((camera) => camera.condition === "live").length} of ${status.cameras.length} live`],
    ["Results", counts.format(status.cameras.reduce((sum, camera) => sum + camera.results, 0))],
    ["Reconnections", counts.format(status.cameras.reduce((sum, camera) => sum + camera.reconnections, 0))],
    ["Temperature", status.temperature_c === null ? "" : `${status.temperature_c.toFixed(0)} °C`],
    ["Running for", duration(status.uptime_s)],
    ["Version", status.version],
  ]);
  const services = Object.entries(status.services);
  title.hidden = services.length === 0;
  const open = new Set([...room.querySelectorAll("details[open]")].map((part) => part.dataset.name));
  if ([...room.children].map((part) => part.dataset.name).join() !== services.map(([name]) => name).join()) {
    room.replaceChildren(...services.map(([name]) => service(name, open.has(name))));
  }
  services.forEach(([, told], index) => facts(room.children[index].lastChild, Object.entries(told).map(([name, value]) => [words(name), shown(value)])));
}

function service(name, open) {
  const part = Object.assign(document.createElement("details"), { open });
  part.dataset.name = name;
  part.append(element("summary", words(name)), Object.assign(document.createElement("dl"), { className: "facts" }));
  return part;
}

function facts(list, pairs) {
  const known = pairs.filter(([, value]) => value !== "");
  if (list.children.length !== 2 * known.length) list.replaceChildren(...known.flatMap(() => [element("dt", ""), element("dd", "")]));
  known.flat().forEach((text, index) => {
    if (list.children[index].textContent !== String(text)) list.children[index].textContent = text;
  });
}

const words = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

function shown(value) {
  if (value === null || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return counts.format(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function duration(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor((seconds % 86400) / 3600), Math.floor((seconds % 3600) / 60)];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/** Stays at the end unless somebody scrolled up to read. */
export function showLog(place, lines) {
  const text = lines.join("\n");
  if (place.textContent === text) return;
  const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 8;
  place.textContent = text;
  if (atEnd) place.scrollTop = place.scrollHeight;
}
