"use strict";
// Draws the charts in the colours and width of the page, sorts tables, and keeps a live report up to date.
const NARROW = 640; // pixels; narrower charts are drawn for phones
const charts = () => [...document.querySelectorAll(".chart")];
const sections = () => [...document.querySelectorAll("main > section")];

document.addEventListener("click", (event) => {
  const picture = event.target.closest(".picture");
  if (picture) picture.setAttribute("aria-expanded", picture.classList.toggle("full"));
  const head = event.target.closest("th[aria-sort]");
  if (head && event.target.closest("button")) sort(head, head.ariaSort === "ascending" ? "descending" : "ascending");
});

function sort(head, order) {
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const numeric = head.classList.contains("number");
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => row.children[column].textContent;
  const compare = (one, other) => {
    const [a, b] = [key(one), key(other)];
    if (!a || !b) return !a - !b; // empty cells come last
    return sign * (numeric ? Number(a.replaceAll(",", "")) - Number(b.replaceAll(",", "")) : a.localeCompare(b, "en", { numeric: true }));
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  for (const other of head.parentNode.children) other.ariaSort = other === head ? order : "none";
}

// Draws visible charts first, and the others while the browser is idle.
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) drawOnce(target);
}, { rootMargin: "400px" });
const whenIdle = window.requestIdleCallback ?? ((next) => setTimeout(next, 20));

function drawOnce(chart) {
  if (chart.dataset.drawn) return;
  near.unobserve(chart);
  draw(chart);
}

function drawAll() {
  charts().filter((chart) => !chart.dataset.drawn).forEach((chart) => near.observe(chart));
  const next = () => {
    const waiting = charts().find((chart) => !chart.dataset.drawn);
    if (!waiting) return void (document.documentElement.dataset.drawn = "yes");
    drawOnce(waiting);
    whenIdle(next);
  };
  whenIdle(next);
}

function draw(chart) {
  chart.figure ??= JSON.parse(chart.firstElementChild.textContent);
  chart.dataset.drawn = "yes";
  const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const narrow = chart.clientWidth < NARROW;
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), showline: true, exponentformat: "power" };
  const template = {
    layout: {
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: narrow ? { l: 52, r: 12, t: 28, b: 44 } : { l: 64, r: 24, t: 28, b: 48 }, xaxis: axis, yaxis: axis,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--line"), activecolor: colour("--soft") },
      hoverlabel: { align: "left", bgcolor: colour("--paper"), font: { color: colour("--ink") } },
      annotationdefaults: { bgcolor: colour("--veil"), borderpad: 0 },
    },
  };
  const layout = { ...structuredClone(chart.figure.layout), template, uirevision: "kept" };
  const touch = !matchMedia("(hover: hover)").matches;
  if (touch) layout.dragmode = false; // swiping over a chart scrolls the page
  fitGrid(chart, layout);
  const data = structuredClone(chart.figure.data);
  if (narrow) fitPhone(chart, data, layout);
  const options = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"], ...(touch ? { displayModeBar: false } : {}),
  };
  Plotly.react(chart, data, layout, options);
}

// Small charts side by side, as many per row as fit.
function fitGrid(chart, layout) {
  if (!layout.grid) return;
  const count = Object.keys(layout).filter((name) => name.startsWith("xaxis")).length;
  const columns = Math.min(layout.grid.columns, Math.max(1, Math.floor(chart.clientWidth / 280)));
  const rows = Math.ceil(count / columns);
  chart.height ??= (parseFloat(chart.style.height) - 60) / layout.grid.rows;
  chart.style.height = `${60 + chart.height * rows}px`;
  layout.grid = { ...layout.grid, columns, rows, ygap: rows > 1 ? 0.34 : 0 };
  const title = layout.yaxis.title;
  for (let place = 0; place < count; place++) {
    layout[`yaxis${place ? place + 1 : ""}`].title = place % columns ? { text: "" } : title;
  }
}

// On phones, legends and colour scales are above the chart, not beside it.
function fitPhone(chart, data, layout) {
  const named = data.filter((trace) => trace.showlegend !== false).length;
  if (layout.legend?.orientation !== "h") layout.legend = { ...layout.legend, orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
  if (named > 8) layout.showlegend = false; // it would leave no room for the chart
  for (const bar of data.map((trace) => trace.colorbar ?? trace.marker?.colorbar)) {
    if (bar) Object.assign(bar, { orientation: "h", y: 1.02, yanchor: "bottom", thickness: 10, nticks: 5, title: { ...bar.title, side: "top" } });
  }
}

(async () => {
  if (!charts().length && !("live" in document.body.dataset)) return;
  try {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    drawAll();
    const again = () => charts().filter((chart) => chart.dataset.drawn).forEach(draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    matchMedia(`(max-width: ${NARROW}px)`).addEventListener("change", again);
    addEventListener("beforeprint", () => charts().forEach(drawOnce));
    if ("live" in document.body.dataset) stayUpToDate();
  } catch (error) {
    for (const chart of charts()) chart.textContent = "This chart needs JavaScript and a browser of 2023 or newer.";
    console.error(error);
  }
})();

// A live report: polls its server for changes, and replaces only what differs.
async function stayUpToDate() {
  const note = document.createElement("p");
  note.className = "live";
  note.setAttribute("role", "status");
  document.body.append(note);
  const say = (text) => { if (note.textContent !== text) note.textContent = text; };
  let version = "";
  for (;;) {
    if (!document.hidden) {
      try {
        const answer = await fetch("content", { headers: version ? { "If-None-Match": version } : {} });
        if (answer.status === 200) {
          version = answer.headers.get("ETag");
          renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
        }
        const trouble = answer.headers.get("X-Trouble");
        say(trouble ? "The store does not answer; this is the last report." : answer.headers.get("X-Status") === "final" ? "" : "live");
      } catch {
        say("The server has ended; this is the last report.");
      }
    }
    await new Promise((go) => setTimeout(go, 2000));
  }
}

function renew(fresh) {
  const seen = sections().find((section) => section.getBoundingClientRect().bottom > 0);
  const top = seen?.getBoundingClientRect().top;
  const header = document.querySelector("header");
  const newHeader = fresh.querySelector("header");
  if (header.innerHTML !== newHeader.innerHTML) keepingFocus(header, () => header.replaceChildren(...newHeader.childNodes));
  document.title = `${document.querySelector("h1").firstChild.textContent.trim()}: report`;
  const main = document.querySelector("main");
  const old = new Map(sections().map((section) => [section.id, section]));
  let place = null;
  for (const section of [...fresh.querySelectorAll("main > section")]) {
    const before = old.get(section.id);
    old.delete(section.id);
    if (before?.dataset.digest === section.dataset.digest) { place = before; continue; }
    if (before) replace(before, section);
    else if (place) place.after(section);
    else main.prepend(section);
    place = before ?? section;
  }
  for (const gone of old.values()) gone.remove();
  const still = seen && document.getElementById(seen.id);
  if (still && scrollY > 0) scrollBy({ top: still.getBoundingClientRect().top - top, behavior: "instant" });
  drawAll();
}

// Updates a section: charts keep their state, and tables stay sorted, scrolled and unfolded.
function replace(section, fresh) {
  for (const chart of fresh.querySelectorAll(".chart")) {
    const drawn = [...section.querySelectorAll(".chart")].find((each) => each.ariaLabel === chart.ariaLabel && each.dataset.drawn);
    if (!drawn) continue;
    drawn.figure = JSON.parse(chart.firstElementChild.textContent);
    if (!drawn.figure.layout.grid) drawn.style.height = chart.style.height;
    chart.replaceWith(drawn);
  }
  const pick = (name) => [...section.querySelectorAll(name)].map((each, place) => [each, fresh.querySelectorAll(name)[place]]).filter(([, to]) => to);
  for (const [from, to] of pick("details")) to.open = from.open;
  for (const [from, to] of pick("th")) if (["ascending", "descending"].includes(from.ariaSort) && to.ariaSort) sort(to, from.ariaSort);
  for (const [from, to] of pick(".picture")) if (from.classList.contains("full")) to.classList.add("full");
  const scrolled = pick(".wide, .frame").map(([from, to]) => [to, from.scrollTop, from.scrollLeft]);
  keepingFocus(section, () => section.replaceChildren(...fresh.childNodes));
  section.dataset.digest = fresh.dataset.digest;
  for (const [to, down, right] of scrolled) [to.scrollTop, to.scrollLeft] = [down, right];
  section.querySelectorAll(".chart[data-drawn]").forEach(draw);
}

function keepingFocus(parent, change) {
  const focusable = () => [...parent.querySelectorAll("a, button, summary, [tabindex]")];
  const place = focusable().indexOf(document.activeElement);
  change();
  if (place >= 0) focusable()[place]?.focus({ preventScroll: true });
}
