// A sortable, filterable table; the figures; and their switches for runs. All else is plain HTML.
new DataTable("#run-table", {
  paging: false,
  info: false,
  autoWidth: false,
  order: [],
  layout: { topStart: "search", topEnd: null, bottomStart: null, bottomEnd: null },
  language: { search: "Filter", searchPlaceholder: "a backend, a grade …" },
});

const plots = JSON.parse(document.getElementById("plots").textContent);
const figures = Object.keys(plots).map((id) => document.getElementById(`plot-${id}`)).filter(Boolean);
const touch = matchMedia("(pointer: coarse)").matches; // a finger scrolls the page
for (const figure of figures) {
  const { data, layout } = plots[figure.id.slice("plot-".length)];
  if (touch) layout.dragmode = false;
  Plotly.newPlot(figure, data, layout, { displayModeBar: false, responsive: true });
}

for (const box of document.querySelectorAll("[data-run]")) {
  box.addEventListener("change", () => {
    for (const figure of figures) {
      const of_run = figure.data.flatMap((trace, i) => (trace.meta === box.dataset.run ? [i] : []));
      if (of_run.length) Plotly.restyle(figure, { visible: box.checked }, of_run);
    }
  });
}

// Paper is narrower than most windows.
matchMedia("print").addEventListener("change", () => figures.forEach((f) => Plotly.Plots.resize(f)));
