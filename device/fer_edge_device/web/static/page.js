"use strict";

// The page draws everything from the updates of /api/events. Text is never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const HINTS = {
  dark: "The picture is dark: add light, or turn the camera away from a window.",
  bright: "The picture is very bright: shade the camera.",
  far: "A face is small: move the camera closer.",
  tilted: "A face is tilted: turn the camera so that eyes are level.",
  cut: "A face is cut off at the edge: aim the camera at the middle of where people are.",
};
const MAX_EVENTS = 50;
const byId = (id) => document.getElementById(id);
let state = { colours: {}, picture: "pixelated", enabled: false };
let shownFrame = 0;
let loading = false;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawing(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const colour = (emotion) => state.colours[emotion] || "#888888";
const percent = (share) => `${Math.round(100 * share)} %`;

function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function say(status) {
  if (byId("status").textContent !== status) byId("status").textContent = status; // screen readers repeat every change
}

function showState(latest) {
  state = latest;
  document.title = `${state.node} – fer-edge`;
  byId("node").textContent = state.node;
  const faces = state.state ? state.state.faces : 0;
  const people = faces === 1 ? "1 face in view" : `${faces} faces in view`;
  say(state.enabled ? `camera ${state.camera}, ${people}` : "switched off: the camera is closed");
  const button = byId("switch");
  button.disabled = false;
  button.setAttribute("aria-checked", String(state.enabled));
  if (!state.enabled || state.camera !== "online") {
    showFaces([]);
    byId("hints").replaceChildren();
    drawBoxes({ width: 640, height: 480, faces: [] });
    if (!state.enabled) byId("events").replaceChildren();
    hidePicture(state.enabled ? "Waiting for the camera" : "Switched off: nothing is shown or recorded");
  } else if (state.picture === "off") {
    byId("curtain").hidden = true;
  }
  showSystem();
}

function showSystem() {
  const { info, stats } = state;
  const rows = [];
  if (info) rows.push(["Model", `${info.model} (${info.model_sha256.slice(0, 8)})`], ["Version", info.version]);
  if (stats) {
    rows.push(["Speed", `${stats.fps.toFixed(1)} frames per second`]);
    if (stats.temp_c !== null) rows.push(["Temperature", `${stats.temp_c.toFixed(0)} °C`]);
    rows.push(["Memory", `${stats.rss_mb.toFixed(0)} MB`], ["Frames dropped", stats.dropped]);
    rows.push(["Events waiting for the broker", stats.queued]);
  }
  rows.push(["Picture", state.picture]);
  byId("system").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
}

function hidePicture(reason) {
  const picture = byId("picture");
  picture.hidden = true;
  picture.removeAttribute("src");
  loading = false;
  byId("curtain").textContent = reason;
  byId("curtain").hidden = false;
}

function showFrame(frame) {
  if (!state.enabled) return;
  drawBoxes(frame);
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

function drawBoxes({ width, height, faces }) {
  const boxes = byId("boxes");
  byId("stage").style.aspectRatio = `${width} / ${height}`;
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  boxes.replaceChildren(...faces.flatMap((face) => {
    const [x, y, wide, high] = face.box.map((value, index) => value * (index % 2 ? height : width));
    const stroke = face.emotion ? colour(face.emotion) : "#ffffff";
    const label = face.emotion ? `${face.emotion} ${percent(face.scores[face.emotion] || 0)}` : "…";
    return [
      drawing("rect", { x, y, width: wide, height: high, rx: 6, stroke }),
      drawing("text", { x: x + 2, y: Math.max(y - 6, 16) }, label),
    ];
  }));
}

function bar(label, share) {
  const picture = drawing("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(drawing("rect", { width: 100 * share, height: 10, fill: colour(label) }));
  return element("div", { class: "bar" }, element("span", {}, label), picture, element("span", {}, percent(share)));
}

function showFaces(faces) {
  byId("nobody").hidden = faces.length > 0;
  byId("faces").replaceChildren(...faces.map((face) => {
    const who = element("div", { class: "who" },
      element("strong", {}, face.emotion || "not sure yet"),
      element("span", { class: "quiet" }, `${face.id.split("-").pop()}, in view for ${duration(face.duration_s)}`));
    const best = Object.entries(face.scores).sort((a, b) => b[1] - a[1]).slice(0, 4);
    return element("li", {}, who, ...best.map(([label, share]) => bar(label, share)));
  }));
}

function showEvent(event) {
  const words = {
    new: `${event.emotion}, a face appeared`,
    update: `${event.previous} → ${event.emotion}`,
    end: `left after ${duration(event.duration_s)}`,
  };
  const list = byId("events");
  const known = event.time > 1e9; // a video's times count from its start
  const time = known ? new Date(event.time * 1000).toLocaleTimeString() : `${event.time.toFixed(1)} s`;
  list.prepend(element("li", {}, element("time", {}, time), element("span", {}, `${event.id.split("-").pop()}: ${words[event.event_type]}`)));
  while (list.children.length > MAX_EVENTS) list.lastChild.remove();
}

async function showHistory() {
  if (!state.has_history) return;
  const answer = await fetch("api/history?hours=48");
  if (!answer.ok) return;
  const { periods } = await answer.json();
  byId("no-history").hidden = true;
  const hour = 3600;
  const first = (Math.floor(Date.now() / 1000 / hour) - 47) * hour;
  const chart = drawing("svg", { viewBox: "0 0 960 150", preserveAspectRatio: "none", role: "img",
    "aria-label": "Share of time of each emotion, by the hour" });
  const labels = new Set();
  for (const period of periods) {
    const total = Object.values(period.emotion_s).reduce((sum, seconds) => sum + seconds, 0);
    let y = 130;
    for (const [label, seconds] of Object.entries(period.emotion_s)) {
      labels.add(label);
      const height = total ? (130 * seconds) / total : 0;
      y -= height;
      const x = ((period.start - first) / hour) * 20 + 1;
      const part = drawing("rect", { x, y, width: 18, height, fill: colour(label) });
      part.append(drawing("title", {}, `${new Date(period.start * 1000).toLocaleString()}: ${label} ${percent(seconds / total)}`));
      chart.append(part);
    }
  }
  for (let back = 48; back > 0; back -= 12) chart.append(drawing("text", { x: (48 - back) * 20 + 1, y: 146 }, `${back} h ago`));
  const legend = element("p", { class: "legend" }, ...[...labels].map((label) => {
    const mark = drawing("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    mark.append(drawing("rect", { width: 10, height: 10, rx: 2, fill: colour(label) }));
    return element("span", {}, mark, label);
  }));
  byId("history").replaceChildren(chart, legend);
}

async function showLog() {
  const answer = await fetch("api/log");
  if (answer.ok) byId("log").textContent = (await answer.json()).lines.join("\n");
}

function post(path, body) {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

byId("switch").addEventListener("click", () => post("api/enabled", { enabled: !state.enabled }));
byId("restart").addEventListener("click", () => post("api/restart", {}));

const updates = new EventSource("api/events");
updates.addEventListener("state", (message) => showState(JSON.parse(message.data)));
updates.addEventListener("frame", (message) => showFrame(JSON.parse(message.data)));
updates.addEventListener("event", (message) => showEvent(JSON.parse(message.data)));
updates.onopen = () => {
  byId("events").replaceChildren();
  shownFrame = 0;
  setTimeout(showHistory, 500);
};
updates.onerror = async () => {
  say("no connection to the runner; trying again");
  hidePicture("No connection to the runner");
  const answer = await fetch("api/state").catch(() => null);
  if (answer && answer.status === 401) location.assign("login");
};
showLog();
setInterval(showLog, 10000);
setInterval(showHistory, 60000);
