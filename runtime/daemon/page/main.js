/** Puts the page together. */

import { ask, logOut, Refused } from "./api.js";
import { Cameras } from "./cameras.js";
import { Login } from "./login.js";
import { Events, showHealth, showLog } from "./panels.js";
import { Stream } from "./stream.js";

const STATUS_MS = 2000;
const LOG_MS = 4000;
const byId = (id) => document.getElementById(id);
const announce = (text) => { byId("announcer").textContent = text; };

const cameras = new Cameras(byId("cameras"), byId("camera-card"), announce, refreshSoon);
const events = new Events(byId("events"), byId("no-events"), announce);
const login = new Login(byId("login"), begin);
const stream = new Stream({
  poses: (result) => cameras.poses(result),
  picture: (header, blob) => cameras.picture(header, blob),
  event: (event) => events.add(event),
  state: (state) => {
    connected = state === "open";
    refreshSoon();
    if (connected) fillEvents().catch(() => {}); // the verdict says that the server does not answer
  },
});
let connected = false;
let running = false;
let admin = false;
let timers = [];
let retry = 0;

async function begin() {
  clearTimeout(retry);
  try {
    const session = await ask("/api/session");
    if (!session.role) return stop();
    admin = session.role === "admin";
    byId("logout").hidden = !session.login;
    byId("log-panel").hidden = !admin;
    await refreshSkeleton();
    await fillEvents();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return stop();
    verdict("offline", error instanceof Refused ? error.message : "The server does not answer");
    retry = setTimeout(begin, STATUS_MS);
    return;
  }
  login.hide();
  byId("site").hidden = false;
  running = true;
  await refresh();
  look();
}

/** What was asked for is only asked for while somebody can see it. */
function look() {
  timers.forEach(clearTimeout);
  timers = [];
  if (!running) return;
  if (document.hidden) return stream.close();
  stream.open();
  timers.push(setInterval(refresh, STATUS_MS));
  if (admin) {
    timers.push(setInterval(refreshLog, LOG_MS));
    refreshLog();
  }
}

function stop() {
  running = false;
  timers.forEach(clearTimeout);
  clearTimeout(retry);
  stream.close();
  byId("site").hidden = true;
  byId("logout").hidden = true;
  verdict("waiting", "Not logged in");
  login.show();
}

async function refresh() {
  try {
    const status = await ask("/api/status");
    cameras.update(status.cameras);
    byId("no-cameras").hidden = status.cameras.length > 0;
    showHealth(byId("health"), byId("services-title"), byId("services"), status);
    if (status.ready) verdict("degraded", status.ready);
    else if (!connected && !document.hidden) verdict("degraded", "Waiting for the stream");
    else verdict("ready", summary(status.cameras));
    if (!cameras.skeleton) await refreshSkeleton();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return stop();
    verdict("offline", error instanceof Refused ? error.message : "The server does not answer");
  }
}

/** Another network may have other keypoints. `refresh` asks again until there is one. */
async function refreshSkeleton() {
  cameras.skeleton = await ask("/api/skeleton");
}

/** What happened while nobody looked, or there was no stream, comes by this alone. */
async function fillEvents() {
  events.fill(await ask("/api/events?limit=50"));
}

function refreshSoon() {
  if (running) refresh();
}

async function refreshLog() {
  try {
    showLog(byId("log"), (await ask("/api/logs?lines=200")).lines);
  } catch (error) {
    if (!(error instanceof Refused)) return; // the verdict says that the server does not answer
    byId("log").textContent = error.message;
  }
}

function summary(all) {
  const live = all.filter((camera) => camera.condition === "live");
  const rate = live.reduce((sum, camera) => sum + camera.fps, 0);
  return `${live.length} ${live.length === 1 ? "camera" : "cameras"} live, ${rate.toFixed(0)} frames/s`;
}

function verdict(state, text) {
  byId("verdict").dataset.state = state;
  if (byId("verdict-text").textContent !== text) byId("verdict-text").textContent = text;
  document.title = state === "ready" ? "Poses" : `${state === "waiting" ? "" : "⚠ "}Poses`;
}

byId("pictures").addEventListener("click", (event) => {
  const pictures = event.currentTarget.getAttribute("aria-pressed") !== "true";
  event.currentTarget.setAttribute("aria-pressed", String(pictures));
  cameras.show(pictures);
  stream.show(pictures);
});
byId("logout").addEventListener("click", async () => {
  await logOut();
  stop();
});
document.addEventListener("visibilitychange", look);
begin();
