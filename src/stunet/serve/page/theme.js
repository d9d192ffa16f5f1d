// Runs before the first paint, so that the page never flashes in the wrong colours. Not a module for that reason.
(() => {
  const themes = ["system", "light", "dark"];
  const stored = () => {
    const theme = localStorage.getItem("stunet-theme");
    return themes.includes(theme) ? theme : "system";
  };
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    button.querySelector(".theme-name").textContent = theme;
    button.setAttribute("aria-label", `Theme: ${theme}`);
  };
  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    apply(stored());
    document.getElementById("theme").addEventListener("click", () => {
      const next = themes[(themes.indexOf(stored()) + 1) % themes.length];
      localStorage.setItem("stunet-theme", next);
      apply(next);
    });
  });
})();
