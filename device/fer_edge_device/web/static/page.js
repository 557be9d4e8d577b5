"use strict";

// The page draws everything from the updates of /api/events.

import { bar, best, byId, drawBoxes, drawing, duration, element, legend, percent, post, say, showLogOut } from "./common.js";

const HINTS = {
  dark: "The picture is dark: add light, or turn the camera away from a window.",
  bright: "The picture is very bright: shade the camera.",
  far: "A face is small: move the camera closer.",
  tilted: "A face is tilted: turn the camera so that eyes are level.",
  cut: "A face is cut off at the edge: aim the camera at the middle of where people are.",
};
const MAX_EVENTS = 50;
const RESTARTS = ["restart-camera", "restart"];
let state = { colours: {}, picture: "pixelated", enabled: false };
let shownFrame = 0;
let loading = false;
let shownLabels = "";

// A face that is too small, turned or blurred to tell has no emotion.
const shownEmotion = (face) => (face.reliable ? face.emotion : "unclear");
const colour = (emotion) => state.colours[emotion] || "#888888";

function showState(latest) {
  state = latest;
  document.title = `${state.node} – fer-edge`;
  byId("node").textContent = state.node;
  if (state.enabled === null) return say("starting");
  say(state.enabled ? `camera ${state.camera}` : "switched off: the camera is closed");
  const button = byId("switch");
  button.disabled = false;
  button.setAttribute("aria-checked", String(state.enabled));
  if (!state.enabled || state.camera !== "online") {
    showNothing(state.enabled ? "Waiting for the camera" : "Switched off: nothing is shown or recorded");
    if (!state.enabled) {
      clearEvents();
      byId("nobody").hidden = true;
    }
  } else if (state.picture === "off") {
    byId("curtain").hidden = true;
  }
  showLogOut(state.has_login);
  byId("no-history").hidden = state.has_history;
  byId("collecting").hidden = !(state.info && state.info.collects_faces);
  byId("restart-camera").hidden = !state.has_camera || !state.enabled;
  showSystem();
  if (Object.keys(state.colours).join() !== shownLabels) {
    shownLabels = Object.keys(state.colours).join();
    showHistory();
  }
  return undefined;
}

function showSystem() {
  const { info, stats } = state;
  const rows = [
    ["Model", info ? `${info.model} (${info.model_sha256.slice(0, 8)})` : "–"],
    ["Version", info ? info.version : "–"],
    ["Speed", stats ? `${stats.fps.toFixed(1)} frames/s` : "–"],
    ["Memory", stats && stats.rss_mb !== null ? `${stats.rss_mb.toFixed(0)} MB` : "–"],
    ["Frames dropped", stats ? stats.dropped : "–"],
    ["Broker", state.broker || "none"],
    ["Picture", state.picture],
  ];
  if (state.broker) rows.push(["Events waiting", stats ? stats.queued : "–"]);
  if (stats && stats.temp_c !== null) rows.push(["Temperature", `${stats.temp_c.toFixed(0)} °C`]);
  byId("system").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
}

function showNothing(reason) {
  showFaces([]);
  byId("hints").replaceChildren();
  showBoxes({ width: 640, height: 480, faces: [] });
  const picture = byId("picture");
  picture.hidden = true;
  picture.removeAttribute("src");
  loading = false;
  byId("curtain").textContent = reason;
  byId("curtain").hidden = false;
}

function showFrame(frame) {
  if (!state.enabled) return;
  showBoxes(frame);
  showFaces(frame.faces);
  byId("hints").replaceChildren(...frame.hints.map((hint) => element("li", {}, HINTS[hint])));
  if (state.picture === "off" || loading || frame.number <= shownFrame) return;
  loading = true;
  const picture = byId("picture");
  picture.onload = () => {
    loading = false;
    picture.hidden = !state.enabled;
    if (state.enabled) byId("curtain").hidden = true;
  };
  picture.onerror = () => { loading = false; };
  shownFrame = frame.number;
  picture.src = `api/image?after=${frame.number - 1}`;
}

// A face has the same number in the picture, in the list and in the events.
const numberOf = (face) => face.id.split("-").pop();

function showBoxes({ width, height, faces }) {
  byId("stage").style.aspectRatio = `${width} / ${height}`;
  drawBoxes(byId("boxes"), { width, height }, faces.map((face) => ({
    box: face.box.map((value, index) => value * (index % 2 ? height : width)),
    colour: face.emotion ? colour(shownEmotion(face)) : "#ffffff",
    label: face.emotion ? `${numberOf(face)} ${shownEmotion(face)}${face.reliable ? ` ${percent(face.scores[face.emotion] || 0)}` : ""}` : numberOf(face),
  })));
}

function showFaces(faces) {
  byId("nobody").hidden = faces.length > 0;
  byId("faces").replaceChildren(...faces.map((face) => {
    const who = element("div", { class: "who" },
      element("strong", {}, face.emotion ? shownEmotion(face) : "not sure yet"),
      element("span", { class: "quiet" }, `face ${numberOf(face)}, for ${duration(face.duration_s)}`));
    return element("li", face.reliable ? {} : { class: "unclear", title: "too small, turned or blurred to tell" }, who, ...best(face.scores, 3).map(([label, share]) => bar(label, share, colour(label))));
  }));
}

function clearEvents() {
  byId("events").replaceChildren();
  byId("no-events").hidden = false;
}

function showEvent(event) {
  byId("no-events").hidden = true;
  const words = {
    new: `appeared, ${shownEmotion(event)}`,
    update: event.previous === event.emotion ? `${event.reliable ? "clear again" : "hard to see"}, ${shownEmotion(event)}` : `${event.previous} → ${shownEmotion(event)}`,
    end: `left after ${duration(event.duration_s)}`,
  };
  const list = byId("events");
  const known = event.time > 1e9; // a video's times count from its start
  const time = known ? new Date(event.time * 1000).toLocaleTimeString() : `${event.time.toFixed(1)} s`;
  list.prepend(element("li", {}, element("time", {}, time), element("span", {}, `face ${numberOf(event)}: ${words[event.event_type]}`)));
  while (list.children.length > MAX_EVENTS) list.lastChild.remove();
}

async function showHistory() {
  if (!state.has_history) return;
  const answer = await fetch("api/history?hours=48").catch(() => null);
  if (!answer || !answer.ok) return;
  const { periods } = await answer.json();
  const hour = 3600;
  const first = (Math.floor(Date.now() / 1000 / hour) - 47) * hour;
  const shares = chart("Share of time of each emotion, by the hour");
  const counts = chart("Mean number of faces in view, by the hour");
  const labels = new Set();
  const means = periods.map((period) => (period.observed_s ? period.face_s / period.observed_s : 0));
  const most = Math.max(1, ...means);
  periods.forEach((period, index) => {
    const x = ((period.start - first) / hour) * 20 + 1;
    const when = new Date(period.start * 1000).toLocaleString();
    const total = Object.values(period.emotion_s).reduce((sum, seconds) => sum + seconds, 0);
    let y = 100;
    for (const [label, seconds] of Object.entries(period.emotion_s)) {
      labels.add(label);
      const height = total ? (100 * seconds) / total : 0;
      y -= height;
      shares.append(column(x, y, height, colour(label), `${when}: ${label} ${percent(seconds / total)}`));
    }
    const height = (100 * means[index]) / most;
    counts.append(column(x, 100 - height, height, "#8b9296", `${when}: ${means[index].toFixed(1)} faces`));
  });
  const axis = element("p", { class: "axis", "aria-hidden": "true" }, ...[48, 36, 24, 12, 0].map((back) => element("span", {}, back ? `${back} h ago` : "now")));
  byId("history").replaceChildren(
    element("p", { class: "quiet" }, "Share of time of each emotion"), shares, legend([...labels], colour),
    element("p", { class: "quiet" }, `Faces in view, ${most.toFixed(1)} at most`), counts, axis);
}

function chart(label) {
  return drawing("svg", { viewBox: "0 0 960 100", preserveAspectRatio: "none", role: "img", class: "chart", "aria-label": label });
}

function column(x, y, height, fill, title) {
  const part = drawing("rect", { x, y, width: 18, height, fill });
  part.append(drawing("title", {}, title));
  return part;
}

async function showLog() {
  const answer = await fetch("api/log").catch(() => null);
  if (answer && answer.ok) byId("log").textContent = (await answer.json()).lines.join("\n");
}

async function act(button, path, body) {
  button.disabled = true;
  const answer = await post(path, body).catch(() => null);
  if (!answer || !answer.ok) say("that did not work; see the log");
  setTimeout(showLog, 500);
  setTimeout(() => { button.disabled = false; }, 2000);
}

byId("switch").addEventListener("click", () => post("api/enabled", { enabled: !state.enabled }).then(() => setTimeout(showLog, 500), () => say("that did not work")));
byId("restart-camera").addEventListener("click", (event) => act(event.currentTarget, "api/camera/restart", {}));
byId("restart").addEventListener("click", (event) => act(event.currentTarget, "api/restart", {}));

const updates = new EventSource("api/events");
updates.addEventListener("state", (message) => showState(JSON.parse(message.data)));
updates.addEventListener("frame", (message) => showFrame(JSON.parse(message.data)));
updates.addEventListener("event", (message) => showEvent(JSON.parse(message.data)));
updates.onopen = () => {
  for (const id of RESTARTS) byId(id).disabled = false;
  clearEvents();
  shownFrame = 0;
};
updates.onerror = async () => {
  say("no connection to the runner; trying again");
  showNothing("No connection to the runner");
  byId("nobody").hidden = true;
  for (const id of ["switch", ...RESTARTS]) byId(id).disabled = true;
  const answer = await fetch("api/state").catch(() => null);
  if (answer && answer.status === 401) location.assign("login");
};
showSystem();
showLog();
setInterval(showLog, 10000);
setInterval(showHistory, 60000);
