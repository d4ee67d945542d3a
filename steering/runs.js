// Pales the texts while a control that a run reads says something else than they were made with, and keeps their place
// while new ones grow. `element` comes from Gradio, which changes what is in it, node by node where it can.
const place = element.closest("#runs");
let height = place.offsetHeight;
let asked = null; // digest of the controls; null until the first of them changes

function digest(values) {
  let hash = 2166136261; // FNV-1a over UTF-16, as in steering/page.py
  for (const unit of JSON.stringify(values).split("")) hash = Math.imul(hash ^ unit.charCodeAt(0), 16777619) >>> 0;
  return String(hash);
}

function pale() {
  const made = element.querySelector(".runs[data-asked]")?.dataset.asked;
  place.classList.toggle("stale", Boolean(made && asked && made !== asked));
}

function hold() {
  const grows = element.querySelector('[aria-busy="true"]');
  place.style.minHeight = grows ? `${height}px` : ""; // as high as before: new texts begin with one line
  height = grows ? Math.max(height, place.offsetHeight) : place.offsetHeight;
}

document.addEventListener("hormesis:settings", (event) => {
  asked = digest(event.detail);
  pale();
});
new MutationObserver(() => {
  pale();
  hold();
}).observe(element, { childList: true, subtree: true, attributeFilter: ["data-asked", "aria-busy"] });
