// Enter in the prompt presses Generate, Shift+Enter breaks the line; Gradio has them the other way round.
const inPrompt = (event) => event.key === "Enter" && !event.isComposing && event.target.closest?.("#prompt textarea");

// on the way down: Gradio listens on the textarea itself
for (const kind of ["keydown", "keypress"])
  document.addEventListener(
    kind,
    (event) => {
      if (!inPrompt(event)) return;
      event.stopImmediatePropagation();
      if (event.shiftKey) return;
      event.preventDefault();
      if (kind === "keydown" && !event.repeat) document.querySelector("#generate").click();
    },
    true,
  );
