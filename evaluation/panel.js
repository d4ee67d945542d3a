// Runs once for the picture and once for the table; `element` and `trigger` come from Gradio. Both are drawn anew on
// every change, so all listeners sit on `element`. A point is any [data-point]; pressed in one, it shows in both.
const REACH = 24; // pixels: a finger is wider than a mark

function nearest(event) {
  const picture = event.target.closest("svg[role=group]");
  if (!picture) return event.target.closest("[data-point]");
  let [best, reach] = [null, REACH];
  for (const point of picture.querySelectorAll("[data-point]")) {
    const { x, y } = middle(point);
    const away = Math.hypot(event.clientX - x, event.clientY - y);
    if (away < reach) [best, reach] = [point, away];
  }
  return best;
}

function middle(point) {
  const box = point.getBoundingClientRect();
  return { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 };
}

function read(point) {
  document.querySelector(".picture .readout").textContent = point.dataset.says ?? point.getAttribute("aria-label");
}

function open(point) {
  for (const other of document.querySelectorAll('[data-point][aria-pressed="true"]'))
    other.setAttribute("aria-pressed", "false");
  for (const same of document.querySelectorAll(`[data-point="${CSS.escape(point.dataset.point)}"]`))
    same.setAttribute("aria-pressed", "true");
  read(point);
  trigger("open_point", { key: point.dataset.point });
  document.getElementById("point").scrollIntoView({ block: "nearest" });
}

const AHEAD = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

function step(from, key) {
  const points = [...from.closest("svg, table").querySelectorAll("[data-point]")];
  if (key === "Home") return points[0];
  if (key === "End") return points.at(-1);
  const [[right, down], here] = [AHEAD[key], middle(from)];
  const cost = (point) => {
    const { x, y } = middle(point);
    const [ahead, aside] = [(x - here.x) * right + (y - here.y) * down, (x - here.x) * down + (y - here.y) * right];
    return ahead > 1 ? ahead + 3 * Math.abs(aside) : Infinity;
  };
  const best = points.reduce((a, b) => (cost(b) < cost(a) ? b : a));
  return cost(best) < Infinity ? best : null;
}

element.addEventListener("keydown", (event) => {
  const point = event.target.closest("[data-point]");
  if (!point) return;
  const moves = event.key in AHEAD || event.key === "Home" || event.key === "End";
  const presses = (event.key === "Enter" || event.key === " ") && point.tagName !== "BUTTON"; // buttons do it themselves
  if (!moves && !presses) return;
  event.preventDefault();
  if (presses) open(point);
  else step(point, event.key)?.focus();
});

element.addEventListener("focusin", (event) => {
  const point = event.target.closest("[data-point]");
  if (!point) return;
  for (const other of point.closest("svg, table").querySelectorAll('[tabindex="0"]'))
    other.setAttribute("tabindex", "-1");
  point.setAttribute("tabindex", "0");
  read(point);
});

element.addEventListener("pointermove", (event) => {
  const point = nearest(event);
  if (point) read(point);
  element.querySelector("svg")?.classList.toggle("over", Boolean(point));
});

element.addEventListener("click", (event) => {
  const point = nearest(event);
  if (point) open(point);
});
