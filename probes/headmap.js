// Runs once when the map appears; `element`, `trigger` and `watch` come from Gradio. The map is drawn anew on every
// change, so all listeners sit on `element` and look for the button that was meant.
const cell = (event) => event.target.closest("button[data-head]");

function read(button) {
  button.closest("figure").querySelector(".readout").textContent = button.dataset.says;
}

function walk(table, row, column) {
  return table.querySelector(`button[data-row="${row}"][data-column="${column}"]`);
}

function target(button, event) {
  const table = button.closest("table");
  const row = Number(button.dataset.row);
  const column = Number(button.dataset.column);
  const lastRow = table.tBodies[0].rows.length - 1;
  const lastColumn = table.tBodies[0].rows[0].cells.length - 2;
  const steps = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    Home: [event.ctrlKey ? 0 : row, 0],
    End: [event.ctrlKey ? lastRow : row, lastColumn],
    PageUp: [0, column],
    PageDown: [lastRow, column],
  };
  return event.key in steps ? { to: walk(table, ...steps[event.key]) } : null;
}

element.addEventListener("keydown", (event) => {
  const button = cell(event);
  const step = button && target(button, event);
  if (!step) return;
  event.preventDefault();
  if (step.to) step.to.focus();
});

element.addEventListener("focusin", (event) => {
  const button = cell(event);
  if (!button) return;
  for (const other of button.closest("table").querySelectorAll('button[tabindex="0"]')) other.tabIndex = -1;
  button.tabIndex = 0;
  read(button);
});

element.addEventListener("pointerover", (event) => {
  const button = cell(event);
  if (button) read(button);
});

element.addEventListener("click", (event) => {
  const button = cell(event);
  if (!button) return;
  for (const other of element.querySelectorAll('button[aria-pressed="true"]')) other.removeAttribute("aria-pressed");
  for (const same of element.querySelectorAll(`button[data-head="${button.dataset.head}"]`))
    same.setAttribute("aria-pressed", "true");
  trigger("open_head", { head: button.dataset.head });
});
