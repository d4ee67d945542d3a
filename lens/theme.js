// Light or dark: the system's choice at first, then the visitor's, kept for the next visit. `element` comes from Gradio.
const KEPT = "hormesis-theme";
const button = element.querySelector("[data-theme-switch]");
const isDark = () => document.body.classList.contains("dark");

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // a browser may keep nothing
  }
}

function apply() {
  const choice = kept();
  if (choice && (choice === "dark") !== isDark()) document.body.classList.toggle("dark", choice === "dark");
  const [light, dark] = button.querySelectorAll("span");
  light.classList.toggle("on", !isDark());
  dark.classList.toggle("on", isDark());
  button.setAttribute("aria-pressed", String(isDark()));
  button.setAttribute("aria-label", `Light or dark: ${isDark() ? "dark" : "light"} is on`);
}

button.addEventListener("click", () => {
  try {
    localStorage.setItem(KEPT, isDark() ? "light" : "dark");
  } catch {
    document.body.classList.toggle("dark");
  }
  apply();
});
new MutationObserver(apply).observe(document.body, { attributeFilter: ["class"] }); // Gradio follows the system
apply();
