"use strict";
// The page reads whole without this: it sorts tables, tells points, keeps words whole, folds and unfolds.

// Tables sort by a click on a heading, or Enter on it; numbers as this report writes them: 1.58k, 6.1×10¹⁰, -2%.
const value = text => {
  const parts = /^([+\-−]?[\d.]+(?:e[+-]?\d+)?)(?:(×)?(10)?([⁻⁰¹²³⁴-⁹]+))?\s*([kMBT])?/.exec(text.trim());
  if (!parts) return text.trim() === "-" || !text.trim() ? -Infinity : text.trim().toLowerCase();
  const power = (parts[4] || "").replace(/./g, c => "⁰¹²³⁴⁵⁶⁷⁸⁹".includes(c) ? "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c) : "-");
  const number = parseFloat(parts[1].replace("−", "-")), unit = { k: 1e3, M: 1e6, B: 1e9, T: 1e12 }[parts[5]] || 1;
  return (power ? (parts[2] ? number : 1) * 10 ** +power : number) * unit;
};
const order = (a, b) => typeof a === typeof b ? (a > b) - (a < b) : typeof a === "number" ? -1 : 1;
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  heads.forEach((head, column) => {
    head.setAttribute("aria-sort", "none");
    head.tabIndex = 0;
    head.title = "sort";
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map(row => [value(row.cells[column].textContent), row]);
      rows.sort((a, b) => up ? order(a[0], b[0]) : order(b[0], a[0]));
      body.append(...rows.map(row => row[1]));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}

// Points tell their run: the nearest to the pointer, or one after the other by the arrow keys.
const tip = document.getElementById("tip");
const words = new Map();
let shown = null;
const hide = () => { tip.hidden = true; if (shown) shown.classList.remove("near"); shown = null; };
const tell = (svg, point) => {
  hide();
  shown = point;
  point.classList.add("near");
  tip.textContent = words.get(point);
  tip.hidden = false;
  const place = svg.getScreenCTM(), [x, y] = at(point);
  const left = scrollX + place.a * x + place.e, top = scrollY + place.d * y + place.f;
  tip.style.left = Math.max(8, Math.min(left + 12, document.documentElement.clientWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(scrollY, top - tip.offsetHeight - 10) + "px";
};
const at = point => {
  const box = point.getBBox();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
for (const figure of document.querySelectorAll("figure")) {
  const points = [...figure.querySelectorAll("svg.whole .told")].sort((a, b) => at(a)[0] - at(b)[0] || at(a)[1] - at(b)[1]);
  if (!points.length) continue;
  // Told here in place of the browser's own slow tip.
  for (const point of points) {
    const title = point.querySelector("title");
    words.set(point, title.textContent);
    title.remove();
  }
  for (const svg of figure.querySelectorAll("svg")) {
    svg.addEventListener("pointermove", event => {
      const place = svg.getScreenCTM();
      let best = null, least = 9;
      for (const point of points) {
        const [x, y] = at(point);
        const far = Math.hypot(place.a * x + place.e - event.clientX, place.d * y + place.f - event.clientY);
        if (far < least) [best, least] = [point, far];
      }
      if (best) { if (best !== shown) tell(svg, best); } else hide();
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("click", () => {
      const row = shown && document.getElementById("run-" + words.get(shown).split(":")[0]);
      if (row) location.hash = row.id;
    });
  }
  const whole = figure.querySelector("svg.whole");
  whole.tabIndex = 0;
  whole.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const next = points.indexOf(shown) + step;
    tell(whole, points[(next + points.length) % points.length]);
  });
  whole.addEventListener("blur", hide);
}

// A command breaks between its words, not after the hyphens of an option.
for (const code of document.querySelectorAll("code")) {
  const word = text => Object.assign(document.createElement("span"), { textContent: text });
  code.replaceChildren(...code.textContent.split(/( )/).map(part => part.trim() ? word(part) : part));
}

// All sections fold at once, and what a link leads to unfolds.
const parts = [...document.querySelectorAll("details.part")];
const button = document.createElement("button");
button.textContent = "Fold all sections";
button.addEventListener("click", () => {
  const open = parts.some(part => part.open);
  for (const part of parts) part.open = !open;
  button.textContent = open ? "Unfold all sections" : "Fold all sections";
});
document.querySelector("nav").append(button);
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
