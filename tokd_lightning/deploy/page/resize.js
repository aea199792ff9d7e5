"use strict";
// Resampling, equal to OpenCV's and Pillow's to the last bit (x86).
// An image is {width, height, channels, data}, 8 bits per channel, row by row.
var tokd = globalThis.tokd ?? {};
globalThis.tokd = tokd;

(() => {
  const f32 = Math.fround;

  /** Round half to even, as Python and OpenCV do. */
  function even(x) {
    const low = Math.floor(x);
    const rest = x - low;
    if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
    return low % 2 === 0 ? low : low + 1;
  }

  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const make = (width, height, channels) =>
    ({ width, height, channels, data: new Uint8Array(width * height * channels) });

  /** Crop a rectangle that is inside the image. */
  function crop(image, x, y, width, height) {
    const made = make(width, height, image.channels);
    const row = width * image.channels;
    for (let j = 0; j < height; j++) {
      const start = ((y + j) * image.width + x) * image.channels;
      made.data.set(image.data.subarray(start, start + row), j * row);
    }
    return made;
  }

  /** cv2.cvtColor(RGB2GRAY). */
  function grey(image) {
    const made = make(image.width, image.height, 1);
    const { data } = image;
    for (let i = 0, j = 0; i < made.data.length; i++, j += 3)
      made.data[i] = (data[j] * 9798 + data[j + 1] * 19235 + data[j + 2] * 3735 + 16384) >> 15;
    return made;
  }

  /** Cells that one pixel of the result averages over, with float32 weights. */
  function areaCells(from, to, scale) {
    const cells = [];
    for (let d = 0; d < to; d++) {
      const start = d * scale;
      const end = start + scale;
      const width = Math.min(scale, from - start);
      const last = Math.min(Math.floor(end), from - 1);
      const first = Math.min(Math.ceil(start), last);
      const found = [];
      if (first - start > 1e-3) found.push([first - 1, f32((first - start) / width)]);
      for (let s = first; s < last; s++) found.push([s, f32(1 / width)]);
      if (end - last > 1e-3)
        found.push([last, f32(Math.min(Math.min(end - last, 1), width) / width)]);
      cells.push(found);
    }
    return cells;
  }

  function wholeCells(image, width, height, sx, sy) {
    const made = make(width, height, image.channels);
    const { channels, data } = image;
    const row = image.width * channels;
    const share = f32(1 / (sx * sy));
    const pairs = sx === 2 && sy === 2;
    for (let y = 0, i = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        for (let c = 0; c < channels; c++, i++) {
          let sum = 0;
          for (let j = 0; j < sy; j++) {
            let at = (y * sy + j) * row + x * sx * channels + c;
            for (let k = 0; k < sx; k++, at += channels) sum += data[at];
          }
          made.data[i] = pairs ? (sum + 2) >> 2 : even(f32(sum * share));
        }
    return made;
  }

  /** cv2.INTER_AREA; fx and fy are factors that were given in place of a size. */
  function area(image, width, height, fx = width / image.width, fy = height / image.height) {
    const sx = 1 / fx;
    const sy = 1 / fy;
    if (sx < 1 || sy < 1) return linear(image, width, height, fx, fy, true);
    const whole = [even(sx), even(sy)];
    if (Math.abs(sx - whole[0]) < 2.2e-16 && Math.abs(sy - whole[1]) < 2.2e-16)
      return wholeCells(image, width, height, ...whole);
    const { channels, data } = image;
    const made = make(width, height, channels);
    const across = areaCells(image.width, width, sx);
    const row = width * channels;
    const part = new Float32Array(row);
    const sum = new Float32Array(row);
    areaCells(image.height, height, sy).forEach((cells, y) => {
      cells.forEach(([line, beta], n) => {
        part.fill(0);
        const start = line * image.width * channels;
        for (let x = 0; x < width; x++)
          for (const [cell, alpha] of across[x])
            for (let c = 0; c < channels; c++) {
              const at = x * channels + c;
              part[at] += f32(data[start + cell * channels + c] * alpha);
            }
        for (let i = 0; i < row; i++)
          sum[i] = n ? sum[i] + f32(beta * part[i]) : beta * part[i];
      });
      for (let i = 0; i < row; i++) made.data[y * row + i] = Math.min(255, even(sum[i]));
    });
    return made;
  }

  function linearTaps(from, to, factor, byArea) {
    const scale = 1 / factor;
    const taps = [];
    for (let d = 0; d < to; d++) {
      let place;
      let rest;
      if (byArea) {
        place = Math.floor(d * scale);
        rest = f32(d + 1 - (place + 1) * factor);
        rest = rest <= 0 ? 0 : f32(rest - Math.floor(rest));
      } else {
        const at = f32((d + 0.5) * scale - 0.5);
        place = Math.floor(at);
        rest = f32(at - place);
      }
      taps.push([place, even(f32(f32(1 - rest) * 2048)), even(f32(rest * 2048))]);
    }
    return taps;
  }

  /** cv2.INTER_LINEAR, and what INTER_AREA does where it enlarges. */
  function linear(
    image, width, height, fx = width / image.width, fy = height / image.height, byArea = false,
  ) {
    const { channels, data } = image;
    if (!byArea && 1 / fx === 2 && 1 / fy === 2) return wholeCells(image, width, height, 2, 2);
    const made = make(width, height, channels);
    const row = width * channels;
    const across = linearTaps(image.width, width, fx, byArea).map(([place, a, b]) => {
      if (place < 0) return [0, 0, 2048, 0];
      if (place >= image.width - 1) return [image.width - 1, image.width - 1, 2048, 0];
      return [place, place + 1, a, b];
    });
    const lines = new Map();
    const line = (y) => {
      const at = clamp(y, 0, image.height - 1);
      if (!lines.has(at)) {
        if (lines.size > 3) lines.clear();
        const made = new Int32Array(row);
        const start = at * image.width * channels;
        for (let x = 0, i = 0; x < width; x++) {
          const [left, right, a, b] = across[x];
          for (let c = 0; c < channels; c++, i++)
            made[i] =
              data[start + left * channels + c] * a + data[start + right * channels + c] * b;
        }
        lines.set(at, made);
      }
      return lines.get(at);
    };
    linearTaps(image.height, height, fy, byArea).forEach(([place, a, b], y) => {
      const above = line(place);
      const below = line(place + 1);
      for (let i = 0; i < row; i++)
        made.data[y * row + i] =
          clamp((((a * (above[i] >> 4)) >> 16) + ((b * (below[i] >> 4)) >> 16) + 2) >> 2, 0, 255);
    });
    return made;
  }

  /** cv2.INTER_LINEAR_EXACT of one channel, as the cascade shrinks its pictures. */
  function linearExact(image, width, height) {
    const taps = (from, to) => {
      const scale = 1 / (to / from);
      return Array.from({ length: to }, (_, d) => {
        const at = scale * (d + 0.5) - 0.5;
        const place = Math.floor(at);
        if (place < 0) return [0, 0, 256, 0];
        if (place >= from - 1) return [from - 1, from - 1, 256, 0];
        const rest = even((at - place) * 256);
        return [place, place + 1, 256 - rest, rest];
      });
    };
    const made = make(width, height, 1);
    const across = taps(image.width, width);
    const { data } = image;
    const line = (y) => {
      const found = new Int32Array(width);
      for (let x = 0; x < width; x++) {
        const [left, right, a, b] = across[x];
        found[x] = data[y * image.width + left] * a + data[y * image.width + right] * b;
      }
      return found;
    };
    let known = [-1, -1];
    let rows = [null, null];
    taps(image.height, height).forEach(([above, below, a, b], y) => {
      const next = [above, below].map((at) => {
        const n = known.indexOf(at);
        return n < 0 ? line(at) : rows[n];
      });
      known = [above, below];
      rows = next;
      for (let x = 0; x < width; x++)
        made.data[y * width + x] = (rows[0][x] * a + rows[1][x] * b + 32768) >>> 16;
    });
    return made;
  }

  function cubicTaps(from, to) {
    const scale = 1 / (to / from);
    const near = (t) => f32(f32(f32(f32(f32(1.25 * t) - 2.25) * t) * t) + 1); // a = -0.75
    return Array.from({ length: to }, (_, d) => {
      const at = f32((d + 0.5) * scale - 0.5);
      const place = Math.floor(at);
      const x = f32(at - place);
      const far = f32(x + 1);
      const first = f32(f32(f32(f32(f32(f32(-0.75 * far) + 3.75) * far) - 6) * far) + 3);
      const second = near(x);
      const third = near(f32(1 - x));
      const weights = [first, second, third, f32(f32(f32(1 - first) - second) - third)];
      const places = [-1, 0, 1, 2].map((k) => clamp(place + k, 0, from - 1));
      return [places, weights.map((weight) => even(weight * 2048))];
    });
  }

  /** cv2.INTER_CUBIC without Intel's IPP: eight values at a time in float32, the rest in integers. */
  function cubic(image, width, height) {
    const { channels, data } = image;
    const made = make(width, height, channels);
    const row = width * channels;
    const lanes = row - (row % 8);
    const share = 1 / (1 << 22);
    const across = cubicTaps(image.width, width);
    const lines = new Map();
    const line = (y) => {
      if (!lines.has(y)) {
        if (lines.size > 7) lines.clear();
        const found = new Int32Array(row);
        const start = y * image.width * channels;
        for (let x = 0, i = 0; x < width; x++) {
          const [places, weights] = across[x];
          for (let c = 0; c < channels; c++, i++) {
            let sum = 0;
            for (let k = 0; k < 4; k++) sum += data[start + places[k] * channels + c] * weights[k];
            found[i] = sum;
          }
        }
        lines.set(y, found);
      }
      return lines.get(y);
    };
    cubicTaps(image.height, height).forEach(([places, weights], y) => {
      const four = places.map(line);
      for (let i = 0; i < row; i++) {
        let sum = 0;
        for (let k = 3; k >= 0; k--) {
          const term = four[k][i] * weights[k];
          sum = i < lanes ? f32(sum + f32(term * share)) : sum + term;
        }
        const value = i < lanes ? even(sum) : Math.floor((sum + (1 << 21)) * share);
        made.data[y * row + i] = clamp(value, 0, 255);
      }
    });
    return made;
  }

  function pillowTaps(from, to) {
    const scale = from / to;
    const reach = Math.max(scale, 1);
    return Array.from({ length: to }, (_, d) => {
      const centre = (d + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - reach + 0.5));
      const end = Math.min(from, Math.trunc(centre + reach + 0.5));
      const weights = [];
      let total = 0;
      for (let s = first; s < end; s++) {
        const away = Math.abs((s - centre + 0.5) * (1 / reach));
        const weight = away < 1 ? 1 - away : 0;
        weights.push(weight);
        total += weight;
      }
      return [first, weights.map((w) => Math.trunc((w / total) * (1 << 22) + 0.5))];
    });
  }

  /** Pillow's BILINEAR, antialiased. */
  function pillow(image, width, height) {
    const { channels } = image;
    const pass = (given, to, along) => {
      if (to === (along ? given.height : given.width)) return given;
      const from = along ? given.height : given.width;
      const made = along ? make(given.width, to, channels) : make(to, given.height, channels);
      const taps = pillowTaps(from, to);
      const step = along ? given.width * channels : channels;
      for (let y = 0, i = 0; y < made.height; y++)
        for (let x = 0; x < made.width; x++) {
          const [first, weights] = taps[along ? y : x];
          const start = along
            ? (first * given.width + x) * channels
            : (y * given.width + first) * channels;
          for (let c = 0; c < channels; c++, i++) {
            let sum = 1 << 21;
            for (let k = 0, at = start + c; k < weights.length; k++, at += step)
              sum += given.data[at] * weights[k];
            made.data[i] = clamp(sum >> 22, 0, 255);
          }
        }
      return made;
    };
    // Pillow begins with the direction that leaves it less to do.
    const lost = image.height - height;
    if (lost > 0 && 2 * (image.width - width) < lost)
      return pass(pass(image, height, true), width, false);
    return pass(pass(image, width, false), height, true);
  }

  Object.assign(tokd, { even, clamp, crop, grey, area, linear, linearExact, cubic, pillow });
})();
