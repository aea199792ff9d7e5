"use strict";
// The face of a picture or of the frames of a video, found and followed as `tokd detect` does.

(() => {
  const { even, clamp, crop, grey, area, linear } = tokd;

  const LOOKS = 8; // frames that are searched as a whole
  const [SEARCHED, KEPT, LARGEST] = [320, 480, 4096]; // pixels along the shorter side
  const [STEP, STRIDE] = [0.75, 2.5]; // largest move between frames, in face sides
  const [CHANGE, ONE, FEWEST, SMALLEST, MOST] = [1.6, 0.5, 4, 0.3, 4];
  const [JITTER, SAME_SCENE, SCENE_SIDE, FLAT] = [0.03, 0.4, 16, 3];
  const [PATCH, ALIKE, SAME_FACE, INNER, SLACK] = [32, 0.6, 0.5, 0.4, 0.13];
  const [HAAR_SIDE, HAAR_FACE, REACH, SMALLER, LARGER] = [480, 48, 1.1, 0.7, 1.45];

  const sideOf = (box) => Math.sqrt(box[2] * box[3]);
  const middleOf = (box) => [box[0] + box[2] / 2, box[1] + box[3] / 2];
  const distance = (a, b) => {
    const [p, q] = [middleOf(a), middleOf(b)];
    return Math.hypot(p[0] - q[0], p[1] - q[1]);
  };
  const like = (a, b) => sideOf(a) / sideOf(b) >= 1 / CHANGE && sideOf(a) / sideOf(b) <= CHANGE;
  const near = (a, b, reach) => like(a, b) && distance(a, b) <= reach * sideOf(b);
  const isOneOf = (box, others) => others.some((b) => distance(box, b) <= ONE * sideOf(b));
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const scaled = (boxes, by) => boxes.map((box) => box.map((v, i) => v * (by[i % 2] ?? by)));

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  function nearest(boxes, last, expected, reach) {
    let best = null;
    for (const box of boxes)
      if (near(box, last, reach) || near(box, expected, STEP))
        if (best === null || distance(box, expected) < distance(best, expected)) best = box;
    return best;
  }

  /** `count` numbers below `length`, evenly spaced: the centres of segments of equal length. */
  function evenlySpaced(length, count) {
    if (length <= count) return Array.from({ length }, (_, i) => i);
    return Array.from({ length: count }, (_, i) => Math.floor(((2 * i + 1) * length) / (2 * count)));
  }

  function smaller(picture, side) {
    const scale = Math.min(1, side / Math.min(picture.height, picture.width));
    if (scale === 1) return [picture, 1];
    const size = [picture.width, picture.height].map((v) => Math.max(1, even(v * scale)));
    return [area(picture, ...size), scale];
  }

  /** The cascade at the scales that `tokd` uses; pictures are RGB, boxes [x, y, w, h]. */
  class Detector {
    constructor(cascade) {
      this.cascade = cascade;
    }

    anywhere(picture) {
      let image = grey(picture);
      const scale = Math.min(1, HAAR_SIDE / Math.min(image.width, image.height));
      if (scale < 1) {
        const size = [image.width, image.height].map((v) => even(v * scale));
        image = area(image, ...size, scale, scale);
      }
      const least = Math.max(1, even(Math.min(image.width, image.height) / 12));
      return scaled(this.cascade.detect(image, least), [1 / scale, 1 / scale]);
    }

    ofSide(picture, side) {
      const scale = HAAR_FACE / side;
      const size = [picture.width, picture.height].map((v) => Math.max(1, even(v * scale)));
      if (Math.max(...size) > 4096) return [];
      const image = grey((scale < 1 ? area : linear)(picture, ...size));
      const [low, high] = [SMALLER, LARGER].map((bound) => Math.max(1, even(HAAR_FACE * bound)));
      return this.cascade
        .detect(image, low, high)
        .map((box) => box.map((v, i) => (v / size[i % 2]) * [picture.width, picture.height][i % 2]))
        .filter((box) => {
          const ratio = sideOf(box) / side;
          return ratio >= SMALLER && ratio <= LARGER;
        });
    }

    near(picture, box) {
      const side = sideOf(box);
      const size = [picture.width, picture.height];
      const centre = middleOf(box);
      const low = centre.map((v, i) => clamp(Math.floor(v - REACH * side), 0, size[i]));
      const high = centre.map((v, i) => clamp(Math.ceil(v + REACH * side), 0, size[i]));
      const [width, height] = [high[0] - low[0], high[1] - low[1]];
      if (Math.min(width, height) < 2) return [];
      return this.ofSide(crop(picture, ...low, width, height), side).map((found) => [
        found[0] + low[0], found[1] + low[1], found[2], found[3],
      ]);
    }
  }

  /** Part of a picture around a point, in grey and at another scale. */
  function greyPart(picture, middle, reach, scale) {
    const size = [picture.width, picture.height];
    const low = middle.map((v, i) => clamp(Math.floor(v - reach), 0, size[i]));
    const high = middle.map((v, i) => clamp(Math.ceil(v + reach), 0, size[i]));
    const [width, height] = [high[0] - low[0], high[1] - low[1]];
    if (Math.min(width, height) < 1) return { width: 0, height: 0, channels: 1, data: [] };
    const part = grey(crop(picture, ...low, width, height));
    return area(part, ...[width, height].map((v) => Math.max(1, even(v * scale))));
  }

  /** cv2.matchTemplate(TM_CCOEFF_NORMED): the best correlation and its place. */
  function match(image, patch) {
    const count = patch.width * patch.height;
    const mean = sum(Array.from(patch.data)) / count;
    const centred = Float64Array.from(patch.data, (v) => v - mean);
    const norm = Math.sqrt(sum(Array.from(centred, (v) => v * v)));
    let best = -Infinity;
    let place = [0, 0];
    for (let y = 0; y <= image.height - patch.height; y++)
      for (let x = 0; x <= image.width - patch.width; x++) {
        let [product, total, squares] = [0, 0, 0];
        for (let j = 0, i = 0; j < patch.height; j++)
          for (let k = 0, at = (y + j) * image.width + x; k < patch.width; k++, i++, at++) {
            const value = image.data[at];
            product += value * centred[i];
            total += value;
            squares += value * value;
          }
        const spread = Math.sqrt(Math.max(0, squares - (total * total) / count)) * norm;
        const fit = spread > 1e-9 ? product / spread : 0;
        if (fit > best) [best, place] = [fit, [x, y]];
      }
    return [best, place];
  }

  function alike(known, box, picture, found) {
    const reach = INNER * sideOf(box);
    const patch = greyPart(known, middleOf(box), reach, PATCH / sideOf(box));
    const slack = (INNER + SLACK) * sideOf(found);
    const part = greyPart(picture, middleOf(found), slack, PATCH / sideOf(found));
    if (
      Math.min(patch.width, patch.height) < PATCH >> 1 ||
      part.width < patch.width || part.height < patch.height
    )
      return false;
    return match(part, patch)[0] >= SAME_FACE;
  }

  function samePicture(known, box, picture, expected) {
    const side = sideOf(box);
    const scale = PATCH / side;
    const patch = greyPart(known, middleOf(box), side / 2, scale);
    const part = greyPart(picture, middleOf(expected), side, scale);
    if (
      Math.min(patch.width, patch.height) < PATCH >> 1 ||
      part.width < patch.width || part.height < patch.height
    )
      return null;
    const [best, place] = match(part, patch);
    if (best < ALIKE) return null;
    const corner = middleOf(expected).map((v, i) =>
      Math.max(Math.floor(v - side), 0) + place[i] / scale);
    const inside = middleOf(box).map((v, i) => box[i] - Math.max(Math.floor(v - side / 2), 0));
    return [corner[0] + inside[0], corner[1] + inside[1], box[2], box[3]];
  }

  /** Frames between two cuts, and the faces on them. */
  class Scene {
    constructor(shots, detector, searched) {
      this.shots = shots;
      this.detector = detector;
      this.wanted = shots.flatMap((shot, n) => (searched.has(shot.frame) ? [n] : []));
      if (!this.wanted.length) this.wanted = [shots.length >> 1];
    }

    /** Find the faces; `pause` is awaited between frames. */
    async run(pause) {
      this.seen = await this.search(this.wanted, SEARCHED, pause);
      if (![...this.seen.values()].some((boxes) => boxes.length)) {
        const more = [...new Set([...this.wanted, 0, this.shots.length - 1])];
        this.seen = await this.search(more.sort((a, b) => a - b), LARGEST, pause);
      }
      this.alone = [...this.seen.values()].every((boxes) => boxes.length <= 1);
      this.chains = await this.allChains(pause);
      return this;
    }

    async search(wanted, side, pause) {
      const found = new Map();
      for (const n of wanted) {
        const [picture, scale] = smaller(this.shots[n].picture, side);
        found.set(n, scaled(this.detector.anywhere(picture), [1 / scale, 1 / scale]));
        await pause();
      }
      return found;
    }

    async allChains(pause) {
      let left = [...this.seen].flatMap(([n, boxes]) => boxes.map((box) => ({ n, box })));
      const found = [];
      for (let round = 0; round < MOST && left.length; round++) {
        const rank = ({ n, box }) => [this.seen.get(n).length, -sideOf(box)];
        const start = left.reduce((best, one) => {
          const [a, b] = [rank(one), rank(best)];
          return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]) ? one : best;
        });
        left = left.filter((one) => one !== start);
        const once = this.seen.size >= FEWEST && !left.some(({ box }) => like(start.box, box));
        if (found.length && once) continue;
        const followed = await this.follow(start.n, start.box, found.map((f) => f.chain), pause);
        const count = followed.detected.size;
        const kept =
          count * FEWEST >= this.shots.length && (count > 1 || this.shots.length < FEWEST);
        const chain = kept ? followed.chain : followed.detected;
        left = left.filter(({ n, box }) => !(chain.has(n) && isOneOf(box, [chain.get(n)])));
        if (kept) found.push(followed);
      }
      const total = (one) => sum([...one.detected.values()].map(sideOf));
      found.sort((a, b) => total(b) - total(a));
      if (this.alone) {
        const whole = new Map();
        for (const one of found)
          for (const [n, box] of one.chain) if (!whole.has(n)) whole.set(n, box);
        return whole.size ? [ordered(whole)] : [];
      }
      const least = found.length ? SMALLEST * chainSide(found[0].detected) : 0;
      return found.filter((one) => chainSide(one.detected) >= least).map((one) => one.chain);
    }

    async follow(start, box, others, pause) {
      const detected = new Map([[start, box]]);
      const pictured = new Map();
      for (const way of [1, -1]) {
        let [last, before, known, pace] = [box, start, start, [0, 0]];
        for (let n = start + way; n >= 0 && n < this.shots.length; n += way) {
          const gap = Math.abs(n - before);
          const expected = [last[0] + pace[0] * gap, last[1] + pace[1] * gap, last[2], last[3]];
          const taken = others.filter((chain) => chain.has(n)).map((chain) => chain.get(n));
          const shown = this.shots[known].picture;
          let found = this.look(n, expected, last, taken);
          await pause();
          if (found !== null && !isOneOf(found, [last, expected]))
            found = alike(shown, detected.get(known), this.shots[n].picture, found) ? found : null;
          if (found !== null) {
            detected.set(n, found);
            known = n;
          } else {
            found = samePicture(shown, detected.get(known), this.shots[n].picture, expected);
            if (found === null || isOneOf(found, taken)) continue;
            pictured.set(n, found);
          }
          const [now, was] = [middleOf(found), middleOf(last)];
          pace = [(now[0] - was[0]) / gap, (now[1] - was[1]) / gap];
          [last, before] = [found, n];
        }
      }
      return { chain: ordered(new Map([...pictured, ...detected])), detected };
    }

    look(n, expected, last, taken) {
      const reach = this.alone ? STRIDE : STEP;
      const choose = (boxes) =>
        nearest(boxes.filter((box) => !isOneOf(box, taken)), last, expected, reach);
      if (this.seen.has(n)) return choose(this.seen.get(n));
      const { picture } = this.shots[n];
      return (
        choose(this.detector.near(picture, expected)) ??
        choose(this.detector.ofSide(picture, sideOf(last)))
      );
    }
  }

  const ordered = (map) => new Map([...map].sort((a, b) => a[0] - b[0]));
  const chainSide = (chain) => median([...chain.values()].map(sideOf));

  function sceneBreaks(shots) {
    const scenes = [];
    let before = null;
    for (const shot of shots) {
      const small = area(shot.picture, SCENE_SIDE, SCENE_SIDE);
      if (before === null || !sameScene(before, small)) scenes.push([]);
      scenes.at(-1).push(shot);
      before = small;
    }
    return scenes;
  }

  function sameScene(one, other) {
    const centred = [one, other].map(({ data }) => {
      const means = [0, 1, 2].map((c) => sum(Array.from(data).filter((_, i) => i % 3 === c)) * 3 / data.length);
      return Float64Array.from(data, (v, i) => v - means[i % 3]);
    });
    const power = centred.map((part) => sum(Array.from(part, (v) => v * v)));
    const flat = power.map((value) => Math.sqrt(value / centred[0].length) < FLAT);
    if (flat[0] || flat[1]) return flat[0] && flat[1];
    const product = sum(Array.from(centred[0], (v, i) => v * centred[1][i]));
    return product >= SAME_SCENE * Math.sqrt(power[0] * power[1]);
  }

  function steady(middles, places, jitter) {
    return middles.map((middle, i) => {
      if (middles.length < 3) return middle;
      const centre = Math.min(Math.max(i, 1), middles.length - 2);
      const nearby = [centre - 1, centre, centre + 1];
      if (places[nearby[2]] - places[nearby[0]] !== 2) return middle;
      const weights = [[5, 2, -1], [1, 2, 1], [-1, 2, 5]][i - nearby[0]];
      const total = sum(weights);
      const shift = [0, 1].map(
        (axis) => sum(nearby.map((k, j) => middles[k][axis] * weights[j])) / total - middle[axis],
      );
      const length = Math.hypot(...shift);
      const share = Math.min(1, length ? jitter / length : 1);
      return [middle[0] + shift[0] * share, middle[1] + shift[1] * share];
    });
  }

  /**
   * Follow the largest face through frames of one size. `shots` are {frame, picture}, `picture`
   * shrunk to `scale`; width and height are those of the frame. Returns null without a face, else
   * {frames: Map frame -> {x, y, side} in units of width and height, absent, others, atOnce}.
   */
  async function follow(shots, width, height, detector, pause) {
    const searched = new Set(evenlySpaced(shots.length, LOOKS).map((i) => shots[i].frame));
    const scenes = [];
    for (const scene of sceneBreaks(shots))
      scenes.push(await new Scene(scene, detector, searched).run(pause));
    const main = scenes.filter((scene) => scene.chains.length);
    const count = sum(main.map((scene) => scene.chains[0].size));
    if (count < Math.max(1, Math.floor(shots.length / FEWEST))) return null;
    const track = (found) => {
      const frames = new Map();
      const sides = [];
      for (const [scene, chain] of found) {
        const keys = [...chain.keys()];
        const scales = keys.map((n) => scene.shots[n].scale);
        const middles = keys.map((n, i) => middleOf(chain.get(n)).map((v) => v / scales[i]));
        const whole = new Map([...chain].filter(([n]) => scene.seen.has(n)));
        const side = chainSide(whole.size ? whole : chain) / scales[0];
        steady(middles, keys, JITTER * side).forEach(([x, y], i) => {
          frames.set(scene.shots[keys[i]].frame, { x: x / width, y: y / height, side: side / width });
          sides.push(side / width);
        });
      }
      return { frames, side: median(sides) };
    };
    const face = track(main.map((scene) => [scene, scene.chains[0]]));
    const others = scenes.flatMap((scene) => scene.chains.slice(1).map((c) => track([[scene, c]])));
    return {
      frames: face.frames,
      absent: shots.filter((shot) => !face.frames.has(shot.frame)).length,
      others: others.filter((other) => other.side >= 0.6 * face.side).length,
      atOnce: Math.max(...scenes.flatMap((s) => [...s.seen.values()].map((b) => b.length))),
    };
  }

  /** The crop of a face: [x, y, side] in whole pixels, inside the picture. */
  function square({ x, y, side }, width, height, margin) {
    const length = Math.min(Math.max(1, even(side * width * margin)), width, height);
    return [
      clamp(even(x * width - length / 2), 0, width - length),
      clamp(even(y * height - length / 2), 0, height - length),
      length,
    ];
  }

  Object.assign(tokd, { Detector, evenlySpaced, smaller, follow, square, KEPT });
})();
