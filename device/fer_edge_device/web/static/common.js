"use strict";

// What the pages share. Text is never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function drawing(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function say(status) {
  if (byId("status").textContent !== status) byId("status").textContent = status; // screen readers repeat every change
}

// The boxes of faces over an image. A face has a box (x, y, width, height, in the units of the size) and a label.
export function drawBoxes(svg, { width, height }, faces) {
  const pixel = width / (svg.clientWidth || 640);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...faces.flatMap(({ box: [x, y, wide, high], colour, label }) => [
    drawing("rect", { x, y, width: wide, height: high, rx: 6 * pixel, "stroke-width": 3 * pixel, stroke: colour }),
    // At the right edge, a label ends where its box does.
    drawing("text", { x: x + wide / 2 > width / 2 ? x + wide : x, y: Math.max(y - 6 * pixel, 16 * pixel),
      "text-anchor": x + wide / 2 > width / 2 ? "end" : "start", "font-size": 14 * pixel, "stroke-width": 3 * pixel }, label),
  ]));
}

export function bar(label, share, colour) {
  const picture = drawing("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(drawing("rect", { width: 100 * share, height: 10, fill: colour }));
  return element("div", { class: "bar" }, element("span", {}, label), picture, element("span", {}, percent(share)));
}

export function best(scores, count) {
  return Object.entries(scores).sort((a, b) => b[1] - a[1]).slice(0, count);
}

export function legend(labels, colour) {
  return element("p", { class: "legend" }, ...labels.map((label) => {
    const mark = drawing("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    mark.append(drawing("rect", { width: 10, height: 10, rx: 2, fill: colour(label) }));
    return element("span", {}, mark, label);
  }));
}

export function post(path, body) {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

// Show the button that ends a session, where there is one.
export function showLogOut(hasLogin) {
  byId("logout").hidden = !hasLogin;
}
