// The faults of a page as a reader's browser shows it now: [kind, element, what is wrong], and its links.
(async () => {
  const EXEMPT = ":disabled, [aria-disabled=true], mjx-assistive-mml"; // the last is there for screen readers only
  const faults = [], main = document.querySelector("main") || document.body;
  const fault = (kind, element, told) => faults.push([kind, name(element), told]);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  // a selector that leads to an element from the nearest one with an id, and the beginning of its text
  function name(element) {
    const path = [];
    for (let at = element; at && at !== document.documentElement; at = at.parentElement) {
      path.unshift(at.id ? `#${at.id}` : [at.localName, ...at.classList].slice(0, 3).join("."));
      if (at.id) break;
    }
    const text = (element.getAttribute("src") || element.textContent || "").trim().replace(/\s+/g, " ");
    return [path.slice(-4).join(" > "), text.slice(-50) === text ? text : `${text.slice(0, 50)} ...`].join(" ").trim();
  }

  // everything loaded, typeset and unfolded, and nothing on its way from one colour to another
  if (!document.getElementById("crawl")) {
    const still = document.createElement("style");
    still.id = "crawl";
    still.textContent = "*, ::before, ::after { transition: none !important; animation: none !important; }";
    document.head.append(still);
  }
  await new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)));
  if (window.MathJax?.startup) await MathJax.startup.promise;
  all("details").forEach((details) => (details.open = true));
  all(".toggle-hidden > button").forEach((button) => button.click());
  const images = all("img");
  images.forEach((image) => (image.loading = "eager"));
  await Promise.all(images.map((image) => image.decode().catch(() => {})));
  await document.fonts.ready;

  // mathematics
  for (const math of all(".math")) {
    const set = all("mjx-container", math);
    if (!set.length) fault("equation", math, "is not typeset");
    else if (set.some((made) => made.querySelector("mjx-merror"))) fault("equation", math, "has an error of MathJax's");
    else if (math.querySelector("[mathcolor=red]")) fault("equation", math, "has a command that MathJax does not know");
    else if (shown(math) && set.some((made) => !made.getBoundingClientRect().width)) fault("equation", math, "is empty");
  }

  // pictures
  for (const image of images) {
    if (!image.naturalWidth) fault("picture", image, "does not load");
    if (!image.hasAttribute("alt")) fault("alt text", image, "is missing");
    else if (main.contains(image) && !image.alt.trim()) fault("alt text", image, "is empty");
    if (image.closest(".cell_output") && !image.closest("figure")) fault("caption", image, "is missing");
  }
  for (const figure of all("figure")) {
    const caption = figure.querySelector("figcaption");
    if (!caption?.textContent.trim()) fault("caption", figure, "is missing");
    else if (shown(figure) && !shown(caption)) fault("caption", figure, "is hidden");
  }
  for (const drawing of all("main svg:not(svg svg, button svg, [aria-hidden])"))
    if (!drawing.getAttribute("aria-label") && !drawing.querySelector(":scope > title"))
      fault("alt text", drawing, "is missing");

  // width
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    const far = (element) => element.getBoundingClientRect().right > width + 1;
    const clipped = (element) => element && (getComputedStyle(element).overflowX !== "visible" || clipped(element.parentElement));
    const wide = all("body *").filter((element) => far(element) && !clipped(element));
    const inner = wide.find((element) => ![...element.children].some(far)) || document.body;
    fault("width", inner, `the page is ${document.documentElement.scrollWidth} wide, the window ${width}`);
  }

  // contrast, by WCAG 2.2: 4.5, for large letters 3
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true }), known = new Map();
  function colour(text) { // any of CSS's notations as red, green, blue, alpha, each up to 1
    if (!known.has(text)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = text;
      canvas.fillRect(0, 0, 1, 1);
      known.set(text, [...canvas.getImageData(0, 0, 1, 1).data].map((x) => x / 255));
    }
    return known.get(text);
  }
  function over(top, below) {
    const alpha = top[3] + below[3] * (1 - top[3]);
    const mix = (i) => (alpha ? (top[i] * top[3] + below[i] * below[3] * (1 - top[3])) / alpha : 0);
    return [mix(0), mix(1), mix(2), alpha];
  }
  function seen(ink, element) { // a point of that ink on an element, as it reaches the eye
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      ink = over(ink, colour(style.backgroundColor));
      ink = [ink[0], ink[1], ink[2], ink[3] * style.opacity];
    }
    return over(ink, [1, 1, 1, 1]);
  }
  function luminance(point) {
    const linear = point.map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }
  function contrast(element, ink) {
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const [dark, light] = [luminance(seen(colour(ink), element)), luminance(seen([0, 0, 0, 0], element))].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05), least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if (ratio < least) fault("contrast", element, `${(Math.floor(ratio * 100) / 100).toFixed(2)}, expected ${least}`);
  }
  const dialogs = all("dialog:not([open])");
  dialogs.forEach((dialog) => dialog.show());
  const inked = new Set(all("mjx-container")), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) if (walker.currentNode.data.trim()) inked.add(walker.currentNode.parentElement);
  for (const element of inked) {
    const box = element.getBoundingClientRect();
    if (!shown(element) || box.width < 2 || box.height < 2 || element.closest(EXEMPT)) continue;
    const style = getComputedStyle(element);
    contrast(element, element instanceof SVGElement ? style.fill : style.color);
  }
  for (const field of all("input:not([type=range], [type=checkbox], [type=file]), textarea, select").filter(shown)) {
    contrast(field, getComputedStyle(field).color);
    if (field.placeholder) contrast(field, getComputedStyle(field, "::placeholder").color);
  }

  dialogs.forEach((dialog) => dialog.close());

  const links = all("a[href]").map((link) => [link.getAttribute("href"), link.href, name(link)]);
  return { faults, links, theme: document.documentElement.dataset.theme || "" };
})()
