"use strict";
// The page: takes files, shows results. Names of files and texts of the model enter as text alone.

(() => {
  const { Network, readPicture, readVideo, grab, Unreadable, clamp } = tokd;
  const FRAMES = 32;
  const SHOWN = 960; // pixels
  const HEAT = { fake: [213, 62, 50], real: [50, 98, 213], strongest: 0.65 };
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (selector, inside = document) => inside.querySelector(selector);

  let network = null;
  const queue = [];
  let busy = false;

  const say = (text) => ($("#status").textContent = text);
  const percent = (value) => `${(100 * value).toFixed(2)}%`;

  /** Yield to the browser now and then, so that the page stays alive. */
  let worked = performance.now();
  async function pause() {
    if (performance.now() - worked < 40) return;
    await new Promise((resolve) => setTimeout(resolve));
    worked = performance.now();
  }

  // ------------------------------------------------------------------ scoring

  /** Score a file or an image: {kind, p, frames, notes}; `hand` is a box [x, y, side] in shares. */
  async function score(item, hand) {
    const progress = $("#progress");
    progress.hidden = false;
    progress.removeAttribute("value");
    let { kind, frames, notes } = await pictures(item, (share) => (progress.value = share / 2));
    const { width, height } = frames[0].image;
    let boxes;
    if (hand) {
      const side = clamp(Math.round(hand.side * width), 1, Math.min(width, height));
      const box = [hand.x * width, hand.y * height].map(Math.round);
      const at = [clamp(box[0], 0, width - side), clamp(box[1], 0, height - side), side];
      boxes = frames.map(() => at);
      notes.push("the box was set by hand");
    } else {
      const found = await network.find(kind, frames, pause);
      boxes = found.boxes;
      notes = [...notes, ...found.notes];
    }
    const scored = [];
    for (const [n, { frame, time, image }] of frames.entries()) {
      const shown = shrunk(image);
      const box = boxes[n];
      if (box !== undefined) {
        const face = network.face(image, box);
        scored.push({ frame, time, shown, box, width, height, face, ...(await network.score(face)) });
      } else if (n === 0) item.empty = { shown, width, height };
      progress.value = 0.5 + (n + 1) / frames.length / 2;
      await pause();
    }
    progress.hidden = true;
    const p = scored.length ? scored.reduce((sum, one) => sum + one.p, 0) / scored.length : null;
    return { kind, p, frames: scored, notes };
  }

  async function pictures(item, progress) {
    if (item.image) return { kind: "image", frames: [{ frame: 0, time: null, image: item.image }], notes: [] };
    try {
      const { image, notes } = await readPicture(item.file);
      return { kind: "image", frames: [{ frame: 0, time: null, image }], notes };
    } catch (error) {
      const video = item.file.type.startsWith("video/") || !item.file.type.startsWith("image/");
      if (!(error instanceof Unreadable) || !video) throw error;
    }
    return { kind: "video", ...(await readVideo(item.file, FRAMES, progress)) };
  }

  function toCanvas(image) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: image.width, height: image.height });
    const pixels = new ImageData(image.width, image.height);
    for (let i = 0, j = 0; j < image.data.length; i += 4, j += 3) {
      pixels.data[i] = image.data[j];
      pixels.data[i + 1] = image.data[j + 1];
      pixels.data[i + 2] = image.data[j + 2];
      pixels.data[i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  function shrunk(image) {
    const whole = toCanvas(image);
    const scale = Math.min(1, SHOWN / Math.max(image.width, image.height));
    if (scale === 1) return whole;
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    canvas.getContext("2d").drawImage(whole, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  // ------------------------------------------------------------------ one result

  /** Show or replace the result of an item. */
  function show(item, result) {
    item.result = result;
    const fresh = $("#result").content.cloneNode(true);
    const article = $("article", fresh);
    const title = $("h2", article);
    title.id = `result-${item.number}`;
    title.textContent = item.name;
    article.setAttribute("aria-labelledby", title.id);
    $(".remove", article).setAttribute("aria-label", `Remove ${item.name}`);
    $(".remove", article).onclick = () => {
      article.remove();
      $("#results").focus();
    };
    const notes = $(".notes", article);
    for (const text of result.notes) notes.append(made("li", text));
    const threshold = network.record.thresholds[result.kind];
    const fake = result.p > threshold;
    article.className = result.p === null ? "unscored" : fake ? "fake" : "real";
    $(".badge", article).textContent =
      result.p === null ? "Not scored" : fake ? "Called fake" : "Called real";
    if (result.p !== null) {
      $(".score span", article).textContent = result.p.toFixed(3);
      $(".bar i", article).style.width = percent(result.p);
      $(".bar b", article).style.left = percent(threshold);
      const mean = result.kind === "video" ? `, mean of ${result.frames.length} frames` : "";
      $(".rule", article).textContent = `Called fake above ${threshold.toFixed(3)}${mean}`;
      article.dataset.p = result.p;
    }
    const first = highest(result.frames);
    if (result.frames.length) figures(article, result);
    else $("details", article).remove();
    if (result.kind === "video" && result.frames.length) timeline(article, item, first);
    display(article, item, first);
    byHand(article, item);
    if (item.article?.isConnected) item.article.replaceWith(article);
    else $("#results").prepend(article);
    item.article = article;
    return article;
  }

  const highest = (frames) =>
    frames.reduce((best, one, n) => (best < 0 || one.p > frames[best].p ? n : best), -1);

  function made(kind, text) {
    const element = document.createElement(kind);
    element.textContent = text;
    return element;
  }

  /** Draw a frame with its box, and its heat map. */
  function display(article, item, n) {
    const frame = item.result.frames[n] ?? item.empty;
    const seen = $(".seen", article);
    if (!frame) {
      seen.remove();
      $(".heat", article).remove();
      $(".tools", article).remove();
      return;
    }
    item.shown = frame;
    item.draft = null;
    paint(article, item);
    const when = item.result.kind === "video" && n >= 0 ? ` at ${frame.time.toFixed(2)} s` : "";
    const caption = frame.box === undefined ? "no face was found" : `what is scored${when}`;
    $("figcaption", seen).textContent = caption;
    $("canvas", seen).setAttribute("aria-label", `The picture${when}: ${caption}`);
    if (frame.face === undefined) $(".heat", article).remove();
    else heat(article, frame);
  }

  /** The box of an item in shares of the picture: of the draft, or of what was scored. */
  function boxOf(item) {
    const { box, width, height } = item.shown;
    if (item.draft) return item.draft;
    if (!box) return null;
    return { x: box[0] / width, y: box[1] / height, side: box[2] / width };
  }

  function paint(article, item) {
    const canvas = $(".seen canvas", article);
    const { shown } = item.shown;
    Object.assign(canvas, { width: shown.width, height: shown.height });
    const draw = canvas.getContext("2d");
    draw.drawImage(shown, 0, 0);
    const box = boxOf(item);
    if (!box) return;
    const line = Math.max(2, Math.round(Math.max(shown.width, shown.height) / 160));
    const side = box.side * shown.width;
    const place = [box.x * shown.width, box.y * shown.height];
    if (item.draft) {
      draw.fillStyle = "#0007";
      draw.beginPath();
      draw.rect(0, 0, shown.width, shown.height);
      draw.rect(...place, side, side);
      draw.fill("evenodd");
    }
    for (const [colour, width] of [["#000a", line * 2], ["#fff", line]]) {
      draw.lineWidth = width;
      draw.strokeStyle = colour;
      draw.strokeRect(place[0] + line, place[1] + line, side - 2 * line, side - 2 * line);
    }
  }

  function heat(article, frame) {
    const canvas = $(".heat canvas", article);
    const face = toCanvas(frame.face);
    const side = 320;
    Object.assign(canvas, { width: side, height: side });
    const draw = canvas.getContext("2d");
    draw.drawImage(face, 0, 0, side, side);
    const { size, crop } = network.record;
    const start = (Math.floor((size - crop) / 2) * side) / size;
    const strongest = Math.max(1e-6, ...frame.heat.map(Math.abs));
    const small = document.createElement("canvas");
    small.width = small.height = frame.side;
    const pixels = new ImageData(frame.side, frame.side);
    frame.heat.forEach((value, i) => {
      const colour = value > 0 ? HEAT.fake : HEAT.real;
      pixels.data.set([...colour, (255 * HEAT.strongest * Math.abs(value)) / strongest], 4 * i);
    });
    small.getContext("2d").putImageData(pixels, 0, 0);
    draw.imageSmoothingQuality = "high";
    draw.drawImage(small, start, start, (crop * side) / size, (crop * side) / size);
    if (crop < size) {
      draw.strokeStyle = "#fff";
      draw.strokeRect(start, start, (crop * side) / size, (crop * side) / size);
    }
    const [real, fake] = frame.logits;
    const said = `Heat map of the face; on average it speaks for ${fake > real ? "fake" : "real"}, by ${Math.abs(fake - real).toFixed(2)}`;
    canvas.setAttribute("aria-label", said);
  }

  function figures(article, result) {
    for (const one of result.frames) {
      const row = document.createElement("tr");
      const time = one.time === null ? "–" : one.time.toFixed(3);
      const logits = one.logits.map((value) => value.toFixed(3)).join(", ");
      for (const text of [String(one.frame), time, one.p.toFixed(6), logits]) row.append(made("td", text));
      $("tbody", article).append(row);
    }
  }

  // ------------------------------------------------------------------ scores over time

  function timeline(article, item, first) {
    const { frames } = item.result;
    const place = $(".time", article);
    place.hidden = false;
    const slider = $("input", place);
    slider.max = frames.length - 1;
    slider.value = first;
    const move = () => {
      const n = Number(slider.value);
      plot($(".plot", place), item, n);
      const said = `${frames[n].time.toFixed(2)} s: ${frames[n].p.toFixed(3)}`;
      $("output", place).textContent = said;
      slider.setAttribute("aria-valuetext", said);
    };
    slider.oninput = () => {
      move();
      display(article, item, Number(slider.value));
    };
    move();
  }

  function plot(place, item, chosen) {
    const { frames } = item.result;
    const threshold = network.record.thresholds.video;
    const wide = matchMedia("(min-width: 761px)").matches;
    const [width, height, left, right, top, bottom] = [wide ? 900 : 360, 170, 34, 10, 10, 24];
    const [start, end] = [frames[0].time, frames.at(-1).time];
    const x = (time) => left + ((time - start) / (end - start || 1)) * (width - left - right);
    const y = (p) => top + (1 - p) * (height - top - bottom);
    const svg = document.createElementNS(SVG, "svg");
    const add = (kind, attributes, text) => {
      const element = document.createElementNS(SVG, kind);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      if (text !== undefined) element.textContent = text;
      svg.append(element);
    };
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "img");
    const above = frames.filter((one) => one.p > threshold).length;
    svg.setAttribute("aria-label", `P(fake) of ${frames.length} frames over time; ${above} are above the threshold ${threshold.toFixed(3)}`);
    for (const value of [0, 0.5, 1]) {
      add("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) });
      add("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value));
    }
    add("line", { class: "limit", x1: left, x2: width - right, y1: y(threshold), y2: y(threshold) });
    add("polyline", { class: "line", points: frames.map((one) => `${x(one.time)},${y(one.p)}`).join(" ") });
    frames.forEach((one, n) =>
      add("circle", { cx: x(one.time), cy: y(one.p), r: n === chosen ? 6 : 3, class: n === chosen ? "now" : "" }));
    add("text", { x: left, y: height - 4 }, `${start.toFixed(1)} s`);
    add("text", { x: width - right, y: height - 4, "text-anchor": "end" }, `${end.toFixed(1)} s`);
    place.replaceChildren(svg);
  }

  // ------------------------------------------------------------------ box by hand

  function byHand(article, item) {
    const canvas = $(".seen canvas", article);
    const tools = $(".tools", article);
    if (!canvas || !tools) return;
    const aspect = item.shown.width / item.shown.height;
    const most = Math.min(1, 1 / aspect); // the side is a share of the width
    const fit = (draft) => {
      const side = clamp(draft.side, 0.02, most);
      item.draft = {
        x: clamp(draft.x, 0, 1 - side),
        y: clamp(draft.y, 0, Math.max(0, 1 - side * aspect)),
        side,
      };
      paint(article, item);
    };
    const end = () => {
      item.draft = null;
      paint(article, item);
      $(".hand", tools).hidden = true;
      $(".box", tools).hidden = false;
      canvas.parentElement.classList.remove("drawing");
      canvas.removeAttribute("tabindex");
      canvas.setAttribute("role", "img");
      $(".box", tools).focus();
    };
    $(".box", tools).onclick = () => {
      $(".box", tools).hidden = true;
      $(".hand", tools).hidden = false;
      canvas.parentElement.classList.add("drawing");
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      fit(boxOf(item) ?? { x: 0.25, y: 0.1, side: most / 2 });
      canvas.focus();
      say("Drag on the picture, or move the box with the arrow keys; + and − resize it.");
    };
    $(".cancel", tools).onclick = end;
    $(".apply", tools).onclick = () => {
      const hand = item.draft;
      end();
      if (hand) put({ ...item, hand });
    };
    canvas.onkeydown = (event) => {
      if (!item.draft) return;
      const { x, y, side } = item.draft;
      const step = event.shiftKey ? 0.05 : 0.01;
      const moves = {
        ArrowLeft: { x: x - step, y, side }, ArrowRight: { x: x + step, y, side },
        ArrowUp: { x, y: y - step * aspect, side }, ArrowDown: { x, y: y + step * aspect, side },
        "+": { x: x - step / 2, y: y - (step / 2) * aspect, side: side + step },
        "-": { x: x + step / 2, y: y + (step / 2) * aspect, side: side - step },
      };
      moves["="] = moves["+"];
      if (event.key === "Enter") $(".apply", tools).click();
      else if (event.key === "Escape") end();
      else if (moves[event.key]) fit(moves[event.key]);
      else return;
      event.preventDefault();
    };
    let from = null;
    const at = (event) => {
      const frame = canvas.getBoundingClientRect();
      const scale = Math.min(frame.width / canvas.width, frame.height / canvas.height);
      const rest = [frame.width - canvas.width * scale, frame.height - canvas.height * scale];
      return [
        clamp((event.clientX - frame.left - rest[0] / 2) / scale / canvas.width, 0, 1),
        clamp((event.clientY - frame.top - rest[1] / 2) / scale / canvas.height, 0, 1),
      ];
    };
    canvas.onpointerdown = (event) => {
      if (!item.draft) return;
      from = at(event);
      canvas.setPointerCapture(event.pointerId);
    };
    canvas.onpointermove = (event) => {
      if (from === null || !item.draft) return;
      const to = at(event);
      const side = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]) / aspect);
      fit({
        x: to[0] < from[0] ? from[0] - side : from[0],
        y: to[1] < from[1] ? from[1] - side * aspect : from[1],
        side,
      });
    };
    canvas.onpointerup = canvas.onpointercancel = () => (from = null);
  }

  // ------------------------------------------------------------------ files and camera

  let numbers = 0;

  function put(item) {
    item.number ??= ++numbers;
    queue.push(item);
    void work();
  }

  async function work() {
    if (busy || network === null) return;
    busy = true;
    let last = "";
    while (queue.length) {
      const item = queue.shift();
      say(`Scoring ${item.name} …`);
      let result;
      try {
        result = await score(item, item.hand);
      } catch (error) {
        const reason = error instanceof Unreadable ? error.message : "scoring it failed";
        if (!(error instanceof Unreadable)) console.error(error);
        result = { kind: "image", p: null, frames: [], notes: [reason] };
      }
      const article = show(item, result);
      last = `${item.name}: ${$(".badge", article).textContent}`;
      if (result.p !== null) last += `, P(fake) ${result.p.toFixed(3)}`;
      say(last);
    }
    $("#progress").hidden = true;
    document.body.dataset.done = String(numbers);
    busy = false;
  }

  const take = (files) => [...files].forEach((file) => put({ name: file.name, file }));

  let stream = null;

  async function openCamera() {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true });
    } catch (error) {
      say(error.name === "NotAllowedError" ? "The camera was not allowed." : "No camera can be opened.");
      return;
    }
    $("#preview").srcObject = stream;
    await $("#preview").play();
    $("#live").hidden = false;
    $("#choose").hidden = true;
    $("#shoot").focus();
  }

  function closeCamera() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    $("#preview").srcObject = null;
    $("#live").hidden = true;
    $("#choose").hidden = false;
    $("#camera").focus();
  }

  async function shoot() {
    const { image } = await grab($("#preview"), null);
    put({ name: `Camera, ${new Date().toLocaleTimeString()}`, image });
  }

  function describe(parts) {
    const { record } = parts;
    $("#model").textContent = network.record.name;
    for (const text of record.warnings ?? []) $("#warnings").append(made("p", `Note: ${text}.`));
    const { detector, thresholds } = network.record;
    if (!["haar", "none"].includes(detector))
      $("#warnings").append(made("p", `Note: the model was trained on faces found by ${detector}; this page finds them by the Haar cascade, so boxes and P(fake) differ from tokd detect. Set the box by hand where it matters.`));
    const rows = {
      Model: network.record.name,
      Network: `${record.network?.backbone ?? "unknown"}, ${parts.kind}`,
      "Trained on": record.trained?.data ?? "unknown",
      Face: detector === "none" ? "pictures are taken whole, no face is looked for" : `Haar cascade, crop ${network.record.margin} times the face`,
      Threshold: `${thresholds.image.toFixed(4)} for pictures, ${thresholds.video.toFixed(4)} for videos`,
      Validation: record.validation ?? "unknown",
    };
    for (const [what, text] of Object.entries(rows)) {
      $("#about").append(made("dt", what), made("dd", String(text)));
    }
  }

  async function start() {
    try {
      network = await Network.open(tokd.parts, globalThis.ort);
      describe(tokd.parts);
      tokd.parts = { record: null };
    } catch (error) {
      console.error(error);
      say("The network cannot be opened: files of this folder are missing or damaged, or the browser is too old. Export it again.");
      return;
    }
    const drop = $("#drop");
    const dropping = (event) => {
      event.preventDefault();
      drop.classList.toggle("over", event.type === "dragover");
    };
    for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, dropping);
    document.addEventListener("drop", (event) => take(event.dataTransfer.files));
    document.addEventListener("paste", (event) => take(event.clipboardData.files));
    $("#files").disabled = false;
    $("#files").onchange = () => {
      take($("#files").files);
      $("#files").value = "";
    };
    $("#camera").disabled = !navigator.mediaDevices?.getUserMedia;
    $("#camera").onclick = openCamera;
    $("#stop").onclick = closeCamera;
    $("#shoot").onclick = shoot;
    say("Ready.");
    document.body.dataset.ready = "yes";
  }

  window.addEventListener("load", start);
  Object.assign(tokd, { score: (file) => score({ file, name: file.name }) });
})();
