// Texts of the page whose contrast with what lies behind them is under 4.5 (WCAG 2.2, 1.4.3).
() => {
  const parse = (color) => {
    const [r, g, b, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return [r, g, b, alpha];
  };
  const over = (top, under) =>
    [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(parse(getComputedStyle(at).backgroundColor));
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const low = [];
  let seen = 0;
  const walk = document.createTreeWalker(document.querySelector(".pk"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    const element = walk.currentNode.parentElement;
    if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
    seen += 1;
    const back = behind(element);
    const ink = over(parse(getComputedStyle(element).color), back);
    const [darker, lighter] = [luminance(back), luminance(ink)].sort((x, y) => x - y);
    const ratio = (lighter + 0.05) / (darker + 0.05);
    if (ratio < 4.5) low.push([text.slice(0, 30), ratio.toFixed(2)]);
  }
  return { seen, low };
}
