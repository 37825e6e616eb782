"use strict";
// A picture grows to its full size, and back, where it is clicked.
for (const picture of document.querySelectorAll(".picture")) {
  picture.addEventListener("click", () => picture.classList.toggle("full"));
}
// Unpacks Plotly, and draws every chart in the colours of the page.
(async () => {
  const charts = [...document.querySelectorAll(".chart")];
  if (!charts.length) return;
  try {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    charts.forEach(draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(draw));
  } catch (error) {
    for (const chart of charts) chart.textContent = "This chart needs JavaScript and a browser of 2023 or newer.";
    console.error(error);
  }

  function draw(chart) {
    chart.figure ??= JSON.parse(chart.firstElementChild.textContent);
    const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), showline: true, exponentformat: "power" };
    const template = {
      layout: {
        font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 64, r: 24, t: 28, b: 48 }, xaxis: axis, yaxis: axis,
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--line"), activecolor: colour("--soft") },
        hoverlabel: { align: "left", bgcolor: colour("--paper"), font: { color: colour("--ink") } },
      },
    };
    const layout = { ...structuredClone(chart.figure.layout), template };
    const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
    Plotly.react(chart, structuredClone(chart.figure.data), layout, options);
  }
})();
