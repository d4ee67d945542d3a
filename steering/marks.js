// The marks under the strength slider set it; arrow keys on the slider count as letting it go.
const slider = () => document.querySelector('#strength input[type="range"]');

function release(range) {
  range.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
}

element.addEventListener("click", (event) => {
  const mark = event.target.closest("button[data-strength]");
  const range = slider();
  if (!mark || !range) return;
  range.value = mark.dataset.strength;
  range.dispatchEvent(new Event("input", { bubbles: true }));
  release(range);
});

document.addEventListener("keyup", (event) => {
  const moves = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
  if (event.target === slider() && moves.includes(event.key)) release(event.target);
});

// the number beside the label only shows the value: entering and leaving it should not start anything
function settle() {
  const number = document.querySelector('#strength input[type="number"]');
  if (number && !number.readOnly) Object.assign(number, { readOnly: true, tabIndex: -1 });
}

settle();
new MutationObserver(settle).observe(document.querySelector("#first") ?? document.body, { childList: true, subtree: true });
