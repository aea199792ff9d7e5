"use strict";
// The Haar cascade for frontal faces, as cv2.CascadeClassifier.detectMultiScale runs it.

(() => {
  const { even, linearExact } = tokd;
  const f32 = Math.fround;
  const WINDOW = 20;

  /**
   * Prepare a cascade: {stages: [[threshold, trees]], trees: [{nodes: [[left, right, feature,
   * threshold]], leaves}], features: [[[x, y, w, h, weight]]]}. It is laid out in flat arrays: a
   * window looks at hundreds of nodes, a picture has ten thousands of windows.
   */
  class Cascade {
    constructor({ stages, trees, features }) {
      this.thresholds = Float64Array.from(stages, ([value]) => f32(f32(value) - f32(1e-5)));
      this.counts = Int32Array.from(stages, ([, count]) => count);
      const nodes = trees.flatMap((tree) => tree.nodes);
      this.children = Int32Array.from(nodes.flatMap(([left, right]) => [left, right]));
      this.limits = Float32Array.from(nodes, (node) => node[3]);
      this.leaves = Float32Array.from(trees.flatMap((tree) => tree.leaves));
      const starts = (sizes) => {
        let total = 0;
        return Int32Array.from(sizes, (size) => (total += size) - size);
      };
      this.firstNodes = starts(trees.map((tree) => tree.nodes.length));
      this.firstLeaves = starts(trees.map((tree) => tree.leaves.length));
      this.features = nodes.map((node) => features[node[2]]); // one per node
      this.weights = new Float32Array(this.features.length * 3);
      this.features.forEach((rectangles, n) =>
        rectangles.forEach((rectangle, k) => (this.weights[n * 3 + k] = rectangle[4])),
      );
    }

    /** Corners of the features as offsets into an integral image of a given width. */
    placed(stride) {
      const corners = new Int32Array(this.features.length * 12);
      this.features.forEach((rectangles, n) =>
        rectangles.forEach(([x, y, w, h], k) => {
          const at = n * 12 + k * 4;
          corners[at] = y * stride + x;
          corners[at + 1] = corners[at] + w;
          corners[at + 2] = corners[at] + h * stride;
          corners[at + 3] = corners[at + 2] + w;
        }),
      );
      return corners;
    }

    /**
     * Find faces in a grey image whose side is between two numbers of pixels.
     * Returns [x, y, width, height] each.
     */
    detect(image, smallest, largest = Infinity, step = 1.1, neighbours = 5) {
      const found = [];
      for (const { scale, side } of scales(image, smallest, largest, step)) {
        const width = even(f32(image.width / scale));
        const height = even(f32(image.height / scale));
        const shrunk =
          width === image.width && height === image.height
            ? image
            : linearExact(image, width, height);
        this.scan(shrunk, scale, side, found);
      }
      return grouped(found, neighbours).map(([x, y, w, h]) => [
        x, y, Math.min(w, image.width - x), Math.min(h, image.height - y),
      ]);
    }

    scan(image, scale, side, found) {
      const { width, height, data } = image;
      const stride = width + 1;
      const sum = new Int32Array(stride * (height + 1));
      const squares = new Float64Array(stride * (height + 1));
      for (let y = 0; y < height; y++)
        for (let x = 0, row = 0, rowOfSquares = 0; x < width; x++) {
          const value = data[y * width + x];
          row += value;
          rowOfSquares += value * value;
          const at = (y + 1) * stride + x + 1;
          sum[at] = sum[at - stride] + row;
          squares[at] = squares[at - stride] + rowOfSquares;
        }
      const corners = this.placed(stride);
      const step = scale >= 2 ? 1 : 2;
      for (let y = 0; y <= height - WINDOW; y += step)
        for (let x = 0; x <= width - WINDOW; x += step) {
          const verdict = this.window(sum, squares, stride, y * stride + x, corners);
          if (verdict > 0) found.push([even(f32(x * scale)), even(f32(y * scale)), side, side]);
          else if (verdict === 0) x += step;
        }
    }

    /** Return 1 for a face, 0 if the first stage rejects the window, else a negative number. */
    window(sum, squares, stride, at, corners) {
      const { thresholds, counts, children, limits, leaves, firstNodes, firstLeaves, weights } = this;
      const inner = at + stride + 1;
      const across = WINDOW - 2;
      const down = across * stride;
      const area = across * across;
      const total = sum[inner] - sum[inner + across] - sum[inner + down] + sum[inner + down + across];
      const power =
        squares[inner] - squares[inner + across] - squares[inner + down] +
        squares[inner + down + across];
      const spread = area * power - total * total;
      if (!(spread > 0)) return -1;
      const norm = f32(1 / Math.sqrt(spread));
      if (!(area * norm < 0.1)) return -1;
      let tree = 0;
      for (let stage = 0; stage < thresholds.length; stage++) {
        let score = 0;
        for (const end = tree + counts[stage]; tree < end; tree++) {
          const first = firstNodes[tree];
          let place = 0;
          do {
            const node = first + place;
            const w = node * 3;
            let c = node * 12;
            let value = f32(
              weights[w] *
                (sum[at + corners[c]] - sum[at + corners[c + 1]] - sum[at + corners[c + 2]] +
                  sum[at + corners[c + 3]]),
            );
            c += 4;
            value = f32(
              value +
                f32(
                  weights[w + 1] *
                    (sum[at + corners[c]] - sum[at + corners[c + 1]] - sum[at + corners[c + 2]] +
                      sum[at + corners[c + 3]]),
                ),
            );
            if (weights[w + 2] !== 0) {
              c += 4;
              value = f32(
                value +
                  f32(
                    weights[w + 2] *
                      (sum[at + corners[c]] - sum[at + corners[c + 1]] - sum[at + corners[c + 2]] +
                        sum[at + corners[c + 3]]),
                  ),
              );
            }
            place = children[2 * node + (f32(value * norm) < limits[node] ? 0 : 1)];
          } while (place > 0);
          score += leaves[firstLeaves[tree] - place];
        }
        if (score < thresholds[stage]) return -stage;
      }
      return 1;
    }
  }

  /** Scales, in float32, at which a face has an allowed side; else the one nearest to the least. */
  function scales(image, smallest, largest, step) {
    const every = [];
    for (let factor = 1; even(WINDOW * factor) <= Math.min(image.width, image.height); factor *= step) {
      const scale = f32(factor);
      every.push({ scale, side: even(f32(WINDOW * scale)) });
    }
    const kept = every.filter(({ side }) => side >= smallest && side <= largest);
    if (kept.length || !every.length) return kept;
    const distance = ({ side }) => (smallest - side) ** 2;
    return [every.reduce((best, one) => (distance(one) < distance(best) ? one : best))];
  }

  /** cv2.groupRectangles with eps 0.2. */
  function grouped(boxes, least) {
    if (least <= 0) return boxes;
    const near = (a, b) => {
      const slack = 0.2 * (Math.min(a[2], b[2]) + Math.min(a[3], b[3])) * 0.5;
      return (
        Math.abs(a[0] - b[0]) <= slack && Math.abs(a[1] - b[1]) <= slack &&
        Math.abs(a[0] + a[2] - b[0] - b[2]) <= slack && Math.abs(a[1] + a[3] - b[1] - b[3]) <= slack
      );
    };
    const parent = boxes.map((_, i) => i);
    const root = (i) => {
      while (parent[i] !== i) i = parent[i] = parent[parent[i]];
      return i;
    };
    for (let i = 0; i < boxes.length; i++)
      for (let j = 0; j < i; j++) if (near(boxes[i], boxes[j])) parent[root(i)] = root(j);
    const groups = new Map();
    boxes.forEach((box, i) => {
      const key = root(i);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(box);
    });
    const means = [...groups.values()].map((group) => {
      const share = f32(1 / group.length);
      const mean = [0, 1, 2, 3].map((k) =>
        even(f32(group.reduce((total, box) => total + box[k], 0) * share)),
      );
      return { mean, count: group.length };
    });
    const kept = means.filter(({ mean: a, count }, i) => {
      if (count <= least) return false;
      return !means.some(({ mean: b, count: other }, j) => {
        if (i === j || other <= least) return false;
        const dx = even(b[2] * 0.2);
        const dy = even(b[3] * 0.2);
        return (
          a[0] >= b[0] - dx && a[1] >= b[1] - dy && a[0] + a[2] <= b[0] + b[2] + dx &&
          a[1] + a[3] <= b[1] + b[3] + dy && (other > Math.max(3, count) || count < 3)
        );
      });
    });
    return kept.map(({ mean }) => mean);
  }

  Object.assign(tokd, { Cascade });
})();
