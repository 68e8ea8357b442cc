// Draws the page's diagrams in the theme's colours, and again when the reader changes the theme.
(() => {
  const diagrams = [...document.querySelectorAll("pre.mermaid")].map((element) => ({
    element,
    code: element.textContent,
  }));

  const draw = async () => {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    mermaid.initialize({
      startOnLoad: false,
      theme: "base",
      fontFamily: style.getPropertyValue("--pst-font-family-base") || "sans-serif",
      flowchart: { htmlLabels: true, useMaxWidth: true, curve: "basis" },
      themeVariables: {
        background: color("--pst-color-background"),
        primaryColor: color("--pst-color-surface"),
        primaryBorderColor: color("--pst-color-primary"),
        primaryTextColor: color("--pst-color-text-base"),
        secondaryColor: color("--pst-color-surface"),
        tertiaryColor: color("--pst-color-background"),
        lineColor: color("--pst-color-text-muted"),
        textColor: color("--pst-color-text-base"),
        edgeLabelBackground: color("--pst-color-background"),
      },
    });
    for (const { element, code } of diagrams) {
      element.removeAttribute("data-processed");
      element.textContent = code;
    }
    await mermaid.run({ nodes: diagrams.map(({ element }) => element) });
    for (const svg of document.querySelectorAll(".mermaid-diagram svg")) {
      svg.style.setProperty("--drawn-width", svg.style.maxWidth || "32rem");
    }
  };

  const begin = () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, {
      attributes: true,
      attributeFilter: ["data-theme"],
    });
  };
  // The theme's colours are there once its style sheets are.
  if (document.readyState === "complete") begin();
  else window.addEventListener("load", begin, { once: true });
})();
