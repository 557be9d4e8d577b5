"use strict";

// Images, videos and the camera of this computer: the server recognizes the faces, the page draws them.

import { bar, best, byId, drawBoxes, drawing, element, legend, percent, say, showLogOut } from "./common.js";

const EVERY_S = 0.2; // between the frames of a video
const CAMERA_WIDTH = 640;
const CAMERA_PAUSE_MS = 100;
let models = [];
let limits = {};
let colours = {};
let items = [];
let work = Promise.resolve();
let stream = null;
let kept = 0;

const colour = (label) => colours[label] || "#888888";
const chosen = () => models.filter((model) => byId(`model-${models.indexOf(model)}`).checked);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
// A face that is too small, turned or blurred to tell has no emotion.
const shownEmotion = (row) => (row.reliable ? row.emotion : "unclear");
const facesOf = (rows) => rows.filter((row) => row.emotion);

// --- asking the server ---

function query(model, name) {
  return new URLSearchParams({ model: model.name, name, face: byId("crops").checked });
}

async function send(path, parameters, body) {
  const answer = await fetch(`${path}?${parameters}`, { method: "POST", body }).catch(() => null);
  if (!answer) throw new Error("the server does not answer; is it still running?");
  if (answer.status === 401) location.assign("login");
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

// The rows of a file, and what is called with each part of them.
async function recognize(file, name, model, isVideo, onPart) {
  const parameters = query(model, name);
  if (isVideo) parameters.set("every", EVERY_S);
  const answer = await send("api/recognize", parameters, file);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    const lines = text.split("\n");
    text = lines.pop();
    lines.forEach((line) => onPart(JSON.parse(line)));
  }
}

async function recognizeItem(item, model) {
  const found = { rows: [], csv: "", duration: 0, error: "", done: false };
  item.found.set(model.name, found);
  try {
    await recognize(item.file, item.name, model, item.isVideo, (part) => {
      found.rows.push(...part.rows);
      found.csv += part.csv;
      found.duration = part.duration || 0;
      showItem(item);
    });
  } catch (error) {
    found.error = error.message;
  }
  found.error ||= found.rows.filter((row) => row.error).map((row) => row.error).join("; ");
  found.done = true;
  showItem(item);
  showSummary();
}

// One after another, so that a folder of images does not wait in memory twice.
function enqueue(missing) {
  for (const item of missing) {
    for (const model of chosen()) {
      if (item.found.has(model.name)) continue;
      item.found.set(model.name, { rows: [], csv: "", duration: 0, error: "", done: false });
      work = work.then(() => (items.includes(item) ? recognizeItem(item, model) : null));
    }
  }
  showSummary();
}

// --- items ---

function addFiles(files) {
  const added = [...files].map((file) => makeItem(file, file.name));
  items.push(...added);
  byId("items").append(...added.map((item) => item.node));
  enqueue(added);
}

function makeItem(file, name) {
  const isVideo = file.type.startsWith("video/");
  const url = URL.createObjectURL(file);
  const media = isVideo ? element("video", { controls: "", muted: "", playsinline: "", src: url }) : element("img", { alt: name, src: url });
  const boxes = drawing("svg", { class: "boxes", "aria-hidden": "true" });
  const faces = element("div", { class: "found" });
  const remove = element("button", { type: "button", "aria-label": `Remove ${name}` }, "Remove");
  const actions = element("p", { class: "row" }, remove);
  const stage = element("div", { class: "stage" }, media, boxes);
  const node = element("section", {}, element("h2", {}, name), stage, faces, actions);
  const item = { file, name, isVideo, url, media, boxes, faces, node, save: null, found: new Map() };
  if (isVideo) {
    media.addEventListener("timeupdate", () => showBoxes(item));
    const follow = () => { showBoxes(item); media.requestVideoFrameCallback?.(follow); };
    media.requestVideoFrameCallback?.(follow);
    media.addEventListener("error", () => stage.replaceWith(element("p", { class: "quiet" }, "This browser cannot play the video.")));
  } else {
    item.save = element("button", { type: "button" }, "Download with faces drawn");
    item.save.addEventListener("click", () => saveAnnotated(item));
    actions.prepend(item.save);
    media.addEventListener("load", () => {
      stage.classList.toggle("small", media.naturalWidth < 400 && media.naturalWidth > media.naturalHeight / 2);
      showBoxes(item);
    });
    media.addEventListener("error", () => showDecoded(item), { once: true });
  }
  remove.addEventListener("click", () => removeItem(item));
  return item;
}

function removeItem(item) {
  URL.revokeObjectURL(item.url);
  items = items.filter((each) => each !== item);
  item.node.remove();
  showSummary();
}

async function annotated(item) {
  const answer = await send("api/annotate", query(chosen()[0] || models[0], item.name), item.file);
  return URL.createObjectURL(await answer.blob());
}

// An image that the browser cannot decode, such as HEIC, is shown as the server decodes it.
async function showDecoded(item) {
  item.isDrawn = true;
  try {
    URL.revokeObjectURL(item.url);
    item.url = await annotated(item);
    item.media.src = item.url;
  } catch {
    item.media.closest(".stage").hidden = true; // what is wrong is said below
  }
}

async function saveAnnotated(item) {
  try {
    const url = item.isDrawn ? item.url : await annotated(item);
    element("a", { href: url, download: `${item.name.replace(/\.[^.]*$/, "")}-faces.jpg` }).click();
  } catch (error) {
    say(error.message);
  }
}

// --- drawing ---

const labelled = (row, index) => ({
  box: row.box,
  colour: colour(shownEmotion(row)),
  label: `${row.track || index + 1} ${shownEmotion(row)}${row.reliable ? ` ${percent(row.score)}` : ""}`,
});

function firstFound(item) {
  return chosen().map((model) => item.found.get(model.name)).find((found) => found && found.rows.length);
}

function showBoxes(item) {
  const found = item.isDrawn ? null : firstFound(item);
  let faces = found ? facesOf(found.rows) : [];
  if (item.isVideo) {
    const now = item.media.currentTime;
    const past = faces.filter((row) => row.time <= now + 0.02 && row.time > now - 2 * EVERY_S);
    const latest = Math.max(...past.map((row) => row.time));
    faces = past.filter((row) => row.time === latest);
  }
  const size = { width: item.media.videoWidth || item.media.naturalWidth || 640, height: item.media.videoHeight || item.media.naturalHeight || 480 };
  drawBoxes(item.boxes, size, faces.map(labelled));
}

function showItem(item) {
  showBoxes(item);
  if (item.save) item.save.hidden = [...item.found.values()].some((found) => found.error);
  item.faces.replaceChildren(...(item.isVideo ? timelines(item) : facesByModel(item)));
}

function facesByModel(item) {
  const columns = chosen().filter((model) => item.found.has(model.name)).map((model) => [model, item.found.get(model.name)]);
  const errors = new Set(columns.map(([, found]) => found.error).filter(Boolean));
  const nodes = [...errors].map((error) => element("p", { class: "error" }, error));
  if (!columns.length) nodes.push(element("p", { class: "quiet" }, "No model is chosen."));
  for (const [model, found] of columns) {
    if (found.done && !found.error && !facesOf(found.rows).length) nodes.push(element("p", { class: "quiet" }, `${model.name}: no face found`));
  }
  const count = Math.max(0, ...columns.map(([, found]) => facesOf(found.rows).length));
  for (let number = 0; number < count; number += 1) {
    const rows = columns.map(([model, found]) => [model, facesOf(found.rows)[number]]).filter(([, row]) => row);
    const differs = new Set(rows.map(([, row]) => shownEmotion(row))).size > 1;
    nodes.push(element("div", { class: differs ? "face differs" : "face" },
      element("p", { class: "quiet" }, `Face ${number + 1}${differs ? ": the models differ" : ""}`),
      element("div", { class: "columns" }, ...rows.map(([model, row]) => scores(model, row)))));
  }
  return nodes;
}

function scores(model, row) {
  const title = element("div", { class: "who" }, element("strong", {}, shownEmotion(row)), element("span", { class: "quiet" }, model.name));
  return element("div", {}, title, ...best(row.scores, 4).map(([label, share]) => bar(label, share, colour(label))));
}

// A line for each person in a video, coloured by emotion.
function timelines(item) {
  const nodes = [];
  const labels = new Set();
  for (const model of chosen()) {
    const found = item.found.get(model.name);
    if (!found) continue;
    const tracks = Map.groupBy ? Map.groupBy(facesOf(found.rows), (row) => row.track) : new Map();
    const end = found.duration || Math.max(1, ...found.rows.map((row) => row.time));
    nodes.push(element("p", { class: "quiet" }, `${model.name}: ${plural(tracks.size, "person")}`.replace("persons", "people")));
    if (found.error) nodes.push(element("p", { class: "error" }, found.error));
    for (const [track, rows] of tracks) {
      const line = drawing("svg", { viewBox: `0 0 ${end} 1`, preserveAspectRatio: "none", class: "timeline", role: "img",
        "aria-label": `Person ${track}: ${shares(rows)}` });
      rows.forEach((row) => {
        labels.add(shownEmotion(row));
        line.append(drawing("rect", { x: row.time, y: 0, width: EVERY_S, height: 1, fill: colour(shownEmotion(row)) }));
      });
      nodes.push(element("div", { class: "person" }, element("span", {}, `Person ${track}`), line, element("span", { class: "quiet" }, shares(rows))));
    }
  }
  if (labels.size) nodes.push(legend([...labels].sort(), colour));
  return nodes;
}

function shares(rows) {
  const counts = {};
  rows.forEach((row) => { counts[shownEmotion(row)] = (counts[shownEmotion(row)] || 0) + 1 / rows.length; });
  return best(counts, 2).map(([label, share]) => `${label} ${percent(share)}`).join(", ");
}

function showSummary() {
  byId("summary").hidden = items.length === 0;
  const using = chosen();
  const all = items.flatMap((item) => [...item.found.values()]);
  const open = all.filter((found) => !found.done).length;
  say(open ? `working: ${plural(open, "result")} to come` : "ready");
  const lines = using.map((model) => `${model.name}: ${countFaces(model)}`);
  if (using.length > 1 && items.some((item) => !item.isVideo)) lines.push(agreement(using));
  byId("total").replaceChildren(...lines.flatMap((line) => [line, element("br")]));
  byId("tables").replaceChildren(...using.map((model) => {
    const button = element("button", { type: "button" }, `Download the table of ${model.name} (CSV)`);
    button.addEventListener("click", () => saveTable(model));
    return button;
  }));
}

// Faces of images, and people of videos, for a person is in many frames.
function countFaces(model) {
  let [faces, people, failed] = [0, 0, 0];
  for (const item of items) {
    const found = item.found.get(model.name);
    const rows = facesOf(found?.rows || []);
    if (found?.error && !rows.length) failed += 1;
    else if (item.isVideo) people += new Set(rows.map((row) => row.track)).size;
    else faces += rows.length;
  }
  const images = items.filter((item) => !item.isVideo).length;
  const videos = items.length - images;
  const parts = [];
  if (images) parts.push(`${plural(faces, "face")} in ${plural(images, "image")}`);
  if (videos) parts.push(`${plural(people, "person")} in ${plural(videos, "video")}`.replace("persons", "people"));
  if (failed) parts.push(`${plural(failed, "file")} cannot be read`);
  return parts.join(", ");
}

function agreement(using) {
  let same = 0;
  let total = 0;
  for (const item of items) {
    if (item.isVideo) continue;
    const rows = using.map((model) => facesOf(item.found.get(model.name)?.rows || []));
    const count = Math.min(...rows.map((faces) => faces.length));
    for (let face = 0; face < count; face += 1) {
      total += 1;
      same += new Set(rows.map((faces) => shownEmotion(faces[face]))).size === 1 ? 1 : 0;
    }
  }
  return `The models agree on ${same} of ${plural(total, "face")}.`;
}

function saveTable(model) {
  const text = model.csv_header + items.map((item) => item.found.get(model.name)?.csv || "").join("");
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: url, download: `faces-${model.name.replace(/[^\w.-]/g, "_")}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// --- the camera of this computer ---

async function openCamera() {
  if (!navigator.mediaDevices) return say("browsers give a camera only to pages of this machine, or to https");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: CAMERA_WIDTH } } });
  } catch (error) {
    return say(`no camera: ${error.message}`);
  }
  const video = element("video", { muted: "", playsinline: "" });
  video.muted = true;
  video.srcObject = stream;
  const boxes = drawing("svg", { class: "boxes", "aria-hidden": "true" });
  byId("camera-stage").replaceChildren(video, boxes);
  byId("camera-view").hidden = false;
  byId("camera").disabled = true;
  await video.play();
  return watchCamera(video, boxes, stream);
}

async function watchCamera(video, boxes, current) {
  const canvas = element("canvas");
  while (stream === current) {
    const scale = Math.min(1, CAMERA_WIDTH / video.videoWidth);
    [canvas.width, canvas.height] = [video.videoWidth * scale, video.videoHeight * scale].map(Math.round);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const picture = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.9); });
    const using = chosen();
    const found = [];
    try {
      for (const model of using) await recognize(picture, "camera.jpg", model, false, (part) => found.push([model, facesOf(part.rows)]));
    } catch (error) {
      say(error.message);
      closeCamera();
    }
    if (stream !== current) return;
    byId("keep").picture = picture;
    const faces = found.length ? found[0][1] : [];
    drawBoxes(boxes, canvas, faces.map(labelled));
    byId("camera-faces").replaceChildren(element("div", { class: "columns" },
      ...found.flatMap(([model, rows]) => rows.slice(0, 3).map((row) => scores(model, row)))));
    await new Promise((done) => { setTimeout(done, CAMERA_PAUSE_MS); });
  }
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("camera-view").hidden = true;
  byId("camera-stage").replaceChildren();
  byId("camera").disabled = false;
}

function keepPicture() {
  const { picture } = byId("keep");
  if (picture) addFiles([new File([picture], `camera-${kept += 1}.jpg`, { type: "image/jpeg" })]);
}

// --- start ---

function showModels() {
  byId("models").replaceChildren(...models.map((model, index) => {
    const box = element("input", { type: "checkbox", id: `model-${index}` });
    box.checked = index === 0;
    box.addEventListener("change", () => {
      enqueue(items);
      items.forEach(showItem);
    });
    return element("label", {}, box, ` ${model.name}`);
  }));
}

function useDrop() {
  const drop = byId("drop");
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    addFiles(event.dataTransfer.files);
  });
}

async function start() {
  const answer = await fetch("api/models");
  limits = await answer.json();
  ({ models, colours } = limits);
  showLogOut(limits.has_login);
  showModels();
  useDrop();
  byId("files").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  byId("crops").addEventListener("change", () => {
    items.forEach((item) => item.found.clear());
    enqueue(items);
  });
  byId("camera").addEventListener("click", openCamera);
  byId("stop").addEventListener("click", closeCamera);
  byId("keep").addEventListener("click", keepPicture);
  say("ready");
}

start();
