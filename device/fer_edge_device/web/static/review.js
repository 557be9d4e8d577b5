"use strict";

// Faces to label: one key for each answer. An answer is shown at once, and counts as saved when the server says so.

import { bar, best, byId, element, percent, post, say } from "./common.js";

const PAGE = 60; // cards
const AGREEMENT_EVERY = 25; // answers
let choices = [];
let byKey = {};
let cards = [];
let nodes = [];
let current = -1;
let total = 0;
let before = 0;
let waiting = 0; // answers that are not saved yet
let answered = 0;
let queue = Promise.resolve();
let turning = false;

const colour = (label) => choices.find((choice) => choice.label === label)?.colour || "";
const grouped = () => byId("grouped").checked;
const card = () => cards[current];
const imageOf = (hash) => `api/images/${hash}`;
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// --- asking the server ---

async function ask(answer) {
  const got = await answer.catch(() => null);
  if (!got) throw new Error("the server does not answer; is fer-edge review still running?");
  const value = await got.json();
  if (!got.ok) throw new Error(value.error);
  return value;
}

function viewQuery(more) {
  return new URLSearchParams({
    show: byId("show").value, order: byId("order").value, emotion: byId("emotion").value, grouped: grouped(), count: PAGE, ...more,
  });
}

const askCards = (more) => ask(fetch(`api/cards?${viewQuery(more)}`));

// --- the grid ---

// The next cards from a position on, or those before it; one of them is selected.
async function turn(more, select = 0, { asked = null, focus = true } = {}) {
  if (turning) return;
  turning = true;
  try {
    await queue; // so that what was answered is no longer to do
    const found = await (asked || askCards(more));
    if (!found.cards.length && found.total) {
      turning = false;
      await turn({ start: 0 }, 0, { focus }); // from the start again: some were skipped
      return;
    }
    ({ cards, total, before } = found);
    showProgress(found.progress);
    showAgreement();
    showGrid(select < 0 ? cards.length - 1 : select, focus);
  } catch (error) {
    say(error.message);
  }
  turning = false;
}

function showGrid(select, focus) {
  nodes = cards.map(makeTile);
  byId("grid").replaceChildren(...nodes);
  byId("grid").hidden = !cards.length;
  byId("empty").hidden = cards.length > 0;
  byId("empty").textContent = byId("show").value === "open" ? "Nothing is left to do here." : "There are no such faces.";
  byId("place").textContent = cards.length ? `${before + 1} to ${before + cards.length} of ${total}` : "";
  byId("previous").disabled = before === 0;
  byId("next").disabled = before + cards.length >= total;
  current = -1;
  if (cards.length) choose(select, focus);
  else showDesk();
  if (!cards.length && focus) byId("empty").focus(); // where the key for undo works
}

function makeTile(one, index) {
  const image = element("img", { alt: "", src: imageOf(one.face), loading: "lazy", decoding: "async", width: 96, height: 96 });
  const node = element("div", { role: "option", class: "tile", tabindex: "-1", id: `card-${index}`, "aria-selected": "false" }, image);
  if (one.count > 1) node.append(element("span", { class: "many" }, `×${one.count}`));
  node.append(element("span"));
  node.addEventListener("click", () => choose(index, true));
  node.addEventListener("focus", () => choose(index, false));
  fillTile(node, one);
  return node;
}

function fillTile(node, one) {
  node.classList.toggle("answered", one.label !== null);
  node.classList.toggle("pending", Boolean(one.pending));
  node.style.setProperty("--mark", colour(one.label) || "var(--muted)");
  const guess = one.emotion ? `${one.emotion} ${percent(one.scores[one.emotion])}` : "";
  node.lastElementChild.textContent = one.label ?? (guess || " ");
  const parts = [one.label === null ? "no answer" : `answer ${one.label}`, guess && `predicted ${guess}`];
  if (one.count > 1) parts.push(`${one.count} near-duplicates`);
  parts.push(...Object.entries(one.others).map(([name, label]) => `${name} says ${label}`));
  node.setAttribute("aria-label", `Face ${before + cards.indexOf(one) + 1} of ${total}: ${parts.filter(Boolean).join(", ")}`);
}

function choose(index, focus) {
  if (index !== current) {
    nodes[current]?.setAttribute("aria-selected", "false");
    nodes[current]?.setAttribute("tabindex", "-1");
    current = index;
    nodes[current].setAttribute("aria-selected", "true");
    nodes[current].setAttribute("tabindex", "0");
    showDesk();
  }
  if (focus) nodes[current].focus();
}

// --- the face at work ---

function showDesk() {
  const one = card();
  byId("large").hidden = !one;
  for (const id of ["predicted", "group"]) byId(id).textContent = "";
  byId("members").replaceChildren();
  byId("scores").replaceChildren();
  if (!one) return;
  byId("large").src = imageOf(one.face);
  byId("large").alt = `The selected face, ${one.name}`;
  byId("predicted").textContent = one.emotion ? `Predicted: ${one.emotion}${one.reason ? `, kept as ${one.reason}` : ""}` : "";
  byId("scores").replaceChildren(...best(one.scores, 3).map(([label, share]) => bar(label, share, colour(label) || "#888888")));
  const others = Object.entries(one.others).map(([name, label]) => `${name}: ${label}`).join(", ");
  byId("group").textContent = others || (one.count > 1 ? `${one.count} near-duplicates, one answer for all` : "");
  if (one.count > 1) {
    byId("members").replaceChildren(...one.members.slice(0, 8).map((hash) => element("img", { alt: "", src: imageOf(hash), width: 32, height: 32 })));
  }
}

function answer(label) {
  const [one, node] = [card(), nodes[current]];
  if (!one) return;
  const previous = one.label;
  [one.label, one.pending] = [label, true];
  waiting += 1;
  fillTile(node, one);
  queue = queue.then(() => save(one, node, label, previous));
  goOn();
}

async function save(one, node, label, previous) {
  try {
    const { progress, faces } = await ask(post("api/label", { face: one.face, label, grouped: grouped() }));
    showProgress(progress);
    say(`${label}${faces > 1 ? ` for ${plural(faces, "face")}` : ""}; ${progress.cards - progress.done} to do`);
    answered += 1;
    if (answered % AGREEMENT_EVERY === 0) showAgreement();
  } catch (error) {
    one.label = previous;
    say(`not saved: ${error.message}`);
  }
  one.pending = false;
  waiting -= 1;
  fillTile(node, one);
}

// To the next face; where faces are to do, to the next one without an answer.
function goOn() {
  const isOpen = byId("show").value === "open";
  const next = cards.findIndex((one, index) => index > current && (!isOpen || one.label === null));
  if (next >= 0) choose(next, true);
  else turnOn();
}

function turnOn() {
  if (cards.length) turn({ start: cards.at(-1).position + 1 });
}

function turnBack() {
  if (before > 0) turn({ start: cards[0]?.position ?? 0, before: true }, -1);
}

async function undo() {
  await queue;
  try {
    const { undone, progress } = await ask(post("api/undo", { order: byId("order").value, grouped: grouped() }));
    showProgress(progress);
    if (!undone) return say("there is nothing to undo");
    const index = cards.findIndex((one) => one.face === undone.face || one.members.includes(undone.face));
    say(undone.label === null ? "undone" : `undone: ${undone.label} again`);
    if (index < 0) return turn({ start: undone.position });
    cards[index].label = undone.label;
    fillTile(nodes[index], cards[index]);
    return choose(index, true);
  } catch (error) {
    return say(error.message);
  }
}

// --- keys ---

function columnsOf() {
  return getComputedStyle(byId("grid")).gridTemplateColumns.split(" ").length;
}

function move(step) {
  const next = current + step;
  if (next >= 0 && next < cards.length) choose(next, true);
  else if (step > 0 && before + cards.length < total) turnOn();
  else if (step < 0) turnBack();
}

function onKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!cards.length && key !== "z") return;
  const actions = {
    ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => move(columnsOf()), ArrowUp: () => move(-columnsOf()),
    Home: () => choose(0, true), End: () => choose(cards.length - 1, true), PageDown: turnOn, PageUp: turnBack, z: undo,
  };
  const label = byKey[key];
  const action = actions[key] || (label && !event.repeat ? () => answer(label) : null); // a key that is held answers once
  if (!action) return;
  event.preventDefault();
  if (!turning) action();
}

// --- around it ---

function showProgress({ cards: all, done, faces, can_undo: canUndo, emotions }) {
  byId("bar").max = all;
  byId("bar").value = done;
  const unit = grouped() && all < faces ? ` of ${faces} faces, near-duplicates counted once` : "";
  byId("done").textContent = `${done} of ${all} done${unit}`;
  byId("undo").disabled = !canUndo;
  byId("emotions").replaceChildren(...Object.entries(emotions).map(([emotion, count]) => (
    bar(emotion || "no prediction", count.done / count.cards, colour(emotion) || "#888888"))));
}

const coefficient = (value) => (value === null ? "–" : value.toFixed(2));

async function showAgreement() {
  let found;
  try {
    found = await ask(fetch("api/agreement"));
  } catch {
    return; // said elsewhere
  }
  const rows = found.reviewers.map(({ name, faces }) => [name, plural(faces, "face")]);
  const shown = [table(["reviewer", "answered"], rows)];
  if (found.pairs.length) {
    shown.push(table(["reviewers", "both answered", "same answer", "Cohen's κ"],
      found.pairs.map((pair) => [pair.reviewers.join(" and "), pair.faces, percent(pair.same / pair.faces), coefficient(pair.kappa)])));
    shown.push(element("p", {}, `Krippendorff's α of all: ${coefficient(found.alpha)} on ${plural(found.faces, "face")}. `
      + "1 is full agreement, 0 is chance. Near-duplicates count once."));
  }
  byId("agreement").replaceChildren(...shown);
}

function table(head, rows) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows.map(([first, ...rest]) => (
      element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((value) => element("td", {}, String(value))))))));
}

function makeChoices() {
  byKey = Object.fromEntries(choices.filter(({ key }) => key).map(({ key, label }) => [key, label]));
  byId("choices").replaceChildren(...choices.map(({ label, key, colour: mark }) => {
    const button = element("button", { type: "button" }, label);
    if (key) {
      button.append(element("kbd", { "aria-hidden": "true" }, key));
      button.setAttribute("aria-keyshortcuts", key);
    }
    if (mark) button.style.setProperty("--mark", mark);
    button.addEventListener("click", () => { if (!turning) answer(label); });
    return button;
  }), undoButton());
}

function undoButton() {
  const button = element("button", { id: "undo", type: "button", "aria-keyshortcuts": "z" }, "undo", element("kbd", { "aria-hidden": "true" }, "z"));
  button.disabled = true;
  button.addEventListener("click", undo);
  return button;
}

function restart() {
  byId("only").hidden = byId("order").value === "random";
  turn({ start: 0 }, 0, { focus: false }); // a list that is changed by the keyboard keeps the focus
}

async function start() {
  let found;
  const first = { start: 0 };
  const asked = askCards(first); // at once, for the first page must be quick
  asked.catch(() => null); // said below
  try {
    found = await ask(fetch("api/review"));
  } catch (error) {
    return say(error.message);
  }
  ({ choices } = found);
  byId("who").textContent = `${found.folder}, by ${found.reviewer}`;
  byId("export").textContent = found.export;
  const emotions = Object.keys(found.progress.emotions).filter(Boolean);
  byId("emotion").replaceChildren(element("option", { value: "" }, "any"), ...emotions.map((emotion) => element("option", { value: emotion }, emotion)));
  makeChoices();
  for (const id of ["show", "order", "emotion", "grouped"]) byId(id).addEventListener("change", restart);
  for (const id of ["grid", "empty"]) byId(id).addEventListener("keydown", onKey);
  byId("previous").addEventListener("click", turnBack);
  byId("next").addEventListener("click", turnOn);
  window.addEventListener("beforeunload", (event) => { if (waiting) event.preventDefault(); });
  await turn(first, 0, { asked });
  return say("ready");
}

start();
