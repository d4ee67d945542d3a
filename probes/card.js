// A card that has just been opened scrolls into view: it stands below the maps. `element` comes from Gradio.
new MutationObserver(() => {
  const card = element.querySelector(".head-card");
  if (!card) return;
  const { top, bottom } = card.getBoundingClientRect();
  const tall = bottom - top > window.innerHeight;
  if (top < 0 || bottom > window.innerHeight) card.scrollIntoView({ block: tall || top < 0 ? "start" : "end" });
}).observe(element, { childList: true, subtree: true, characterData: true });
