"use strict";
// Frames of a video: which there are (read from an MP4), and their pixels as FFmpeg converts them.

(() => {
  const { Unreadable, byCanvas, toRgb, turned, evenlySpaced, MOST } = tokd;
  const FEWEST_SECONDS = 1e-3;
  const RETRIES = 40;
  const BUDGET = 400e6; // bytes of pictures that `tokd detect` holds, beyond which it shrinks them

  /** cr -> r, cb -> b, cb -> g, cr -> g of a matrix of ITU-T H.273, in units of 2^-16. */
  const MATRICES = {
    1: [117489, 138438, 13975, 34925],
    4: [104448, 132798, 24759, 53109],
    7: [117579, 136230, 16907, 35559],
    9: [110013, 140363, 12277, 42626],
    10: [110013, 140363, 12277, 42626],
  };
  const NAMED = { bt709: 1, "bt2020-ncl": 9 };
  const BT601 = [104597, 132201, 25675, 53279];

  // ------------------------------------------------------------------ MP4

  const name = (view, at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));

  /** Yield [kind, start, end] of the boxes in part of a view. */
  function* boxes(view, start, end) {
    while (start + 8 <= end) {
      let size = view.getUint32(start);
      let head = 8;
      if (size === 1 && start + 16 <= end) {
        size = Number(view.getBigUint64(start + 8));
        head = 16;
      } else if (size === 0) size = end - start;
      if (size < head || start + size > end) return;
      yield [name(view, start + 4), start + head, start + size];
      start += size;
    }
  }

  function child(view, box, ...path) {
    for (const kind of path) {
      if (box) box = [...boxes(view, box[1], box[2])].find(([found]) => found === kind);
    }
    return box;
  }

  async function moovOf(file) {
    for (let at = 0; at + 8 <= file.size; ) {
      const head = new DataView(await file.slice(at, at + 16).arrayBuffer());
      let size = head.getUint32(0);
      if (size === 1 && head.byteLength === 16) size = Number(head.getBigUint64(8));
      if (size === 0) size = file.size - at;
      if (size < 8) return null;
      if (name(head, 4) === "moof") return null;
      if (name(head, 4) === "moov")
        return size > 1 << 28 ? null : new DataView(await file.slice(at, at + size).arrayBuffer());
      at += size;
    }
    return null;
  }

  /** Read times of frames, colour tags and size: null if it is not a plain MP4. */
  async function readMp4(file) {
    try {
      const view = await moovOf(file);
      if (view === null) return null;
      const moov = [...boxes(view, 0, view.byteLength)][0];
      if (child(view, moov, "mvex")) return null;
      const movie = child(view, moov, "mvhd")[1];
      const movieScale = view.getUint32(movie + (view.getUint8(movie) === 1 ? 20 : 12));
      const tracks = [...boxes(view, moov[1], moov[2])]
        .filter(([kind]) => kind === "trak")
        .filter((trak) => name(view, child(view, trak, "mdia", "hdlr")[1] + 8) === "vide")
        .map((trak) => oneTrack(view, trak, movieScale))
        .sort((a, b) => b.width * b.height - a.width * a.height);
      return tracks[0] ?? null;
    } catch (error) {
      if (error instanceof RangeError || error instanceof TypeError) return null; // damaged
      throw error;
    }
  }

  function oneTrack(view, trak, movieScale) {
    const media = child(view, trak, "mdia");
    const header = child(view, media, "mdhd")[1];
    const scale = view.getUint32(header + (view.getUint8(header) === 1 ? 20 : 12));
    const table = child(view, media, "minf", "stbl");
    const samples = [];
    const [, stts] = child(view, table, "stts");
    let time = 0;
    for (let n = 0; n < view.getUint32(stts + 4); n++) {
      const count = view.getUint32(stts + 8 + 8 * n);
      const delta = view.getUint32(stts + 12 + 8 * n);
      if (samples.length + count > 5e6) throw new RangeError("too many frames");
      for (let k = 0; k < count; k++, time += delta) samples.push(time);
    }
    const ctts = child(view, table, "ctts")?.[1];
    if (ctts !== undefined)
      for (let n = 0, i = 0; n < view.getUint32(ctts + 4); n++) {
        const count = view.getUint32(ctts + 8 + 8 * n);
        const shift = view.getInt32(ctts + 12 + 8 * n);
        for (let k = 0; k < count && i < samples.length; k++, i++) samples[i] += shift;
      }
    const edits = editsOf(view, child(view, trak, "edts", "elst")?.[1]);
    const empty = edits.length && edits[0].start === -1 ? edits.shift().length / movieScale : 0;
    if (edits.length > 1) throw new TypeError("several edits");
    const start = edits.length ? edits[0].start : 0;
    const end = edits.length && edits[0].length ? start + (edits[0].length / movieScale) * scale : Infinity;
    const times = samples
      .filter((pts) => pts >= start && pts < end)
      .map((pts) => (pts - start) / scale + empty)
      .sort((a, b) => a - b);
    const [, stsd] = child(view, table, "stsd");
    const [entry] = boxes(view, stsd + 8, view.byteLength);
    const inside = [entry[0], entry[1] + 78, entry[2]];
    return {
      times,
      width: view.getUint16(entry[1] + 24),
      height: view.getUint16(entry[1] + 26),
      colours: coloursOf(view, entry[0], inside),
    };
  }

  function editsOf(view, at) {
    if (at === undefined) return [];
    const long = view.getUint8(at) === 1;
    return Array.from({ length: view.getUint32(at + 4) }, (_, n) => {
      const entry = at + 8 + n * (long ? 20 : 12);
      return long
        ? { length: Number(view.getBigUint64(entry)), start: Number(view.getBigInt64(entry + 8)) }
        : { length: view.getUint32(entry), start: view.getInt32(entry + 4) };
    });
  }

  /** {matrix, full} as the stream, or else the container, is tagged; null if that is not known. */
  function coloursOf(view, codec, entry) {
    const tags = { matrix: 2, full: false };
    const colr = child(view, entry, "colr")?.[1];
    if (colr !== undefined && ["nclx", "nclc"].includes(name(view, colr))) {
      tags.matrix = view.getUint16(colr + 8);
      tags.full = name(view, colr) === "nclx" && view.getUint8(colr + 10) >> 7 === 1;
    }
    if (!codec.startsWith("avc")) return colr === undefined ? null : tags;
    const avcc = child(view, entry, "avcC")[1];
    const length = view.getUint16(avcc + 6);
    return { ...tags, ...vui(new Uint8Array(view.buffer, avcc + 8, length)) };
  }

  /** Colour tags of a sequence parameter set of H.264. */
  function vui(unit) {
    const bytes = unit.filter((v, i) => !(v === 3 && i > 2 && unit[i - 1] === 0 && unit[i - 2] === 0));
    let at = 8;
    const bits = (n) => {
      let value = 0;
      for (; n > 0; n--, at++) value = value * 2 + ((bytes[at >> 3] >> (7 - (at & 7))) & 1);
      return value;
    };
    const ue = () => {
      let zeros = 0;
      while (at < bytes.length * 8 && bits(1) === 0) zeros++;
      return 2 ** zeros - 1 + bits(zeros);
    };
    const se = () => ue();
    const profile = bits(8);
    bits(16);
    ue();
    if ([100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].includes(profile)) {
      const chroma = ue();
      if (chroma === 3) bits(1);
      ue();
      ue();
      bits(1);
      if (bits(1)) {
        for (let n = 0; n < (chroma === 3 ? 12 : 8); n++)
          if (bits(1)) {
            let [last, next] = [8, 8];
            for (let k = 0; k < (n < 6 ? 16 : 64); k++) {
              if (next !== 0) {
                const code = ue();
                next = (last + (code % 2 ? (code + 1) / 2 : -code / 2) + 256) % 256;
              }
              last = next === 0 ? last : next;
            }
          }
      }
    }
    ue();
    const order = ue();
    if (order === 0) ue();
    else if (order === 1) {
      bits(1);
      se();
      se();
      for (let n = ue(); n > 0; n--) se();
    }
    ue();
    bits(1);
    ue();
    ue();
    if (!bits(1)) bits(1);
    bits(1);
    if (bits(1)) for (let n = 0; n < 4; n++) ue();
    const found = {};
    if (!bits(1)) return found;
    if (bits(1) && bits(8) === 255) bits(32);
    if (bits(1)) bits(1);
    if (bits(1)) {
      bits(3);
      found.full = bits(1) === 1;
      if (bits(1)) {
        bits(16);
        const matrix = bits(8);
        if (matrix !== 2) found.matrix = matrix;
      }
    }
    return found;
  }

  // ------------------------------------------------------------------ pixels

  /** Convert planes of 4:2:0 to RGB, as libswscale does on x86: upper halves of products. */
  function fromPlanes({ data, layout, width, height, nv12 }, { matrix, full }) {
    const given = MATRICES[matrix] ?? BT601;
    const part = (v) => (full ? Math.trunc((v * 224) / 255) : v);
    const factor = (v) => Math.floor((v * 8192 + 32768) / 65536);
    const [vr, ub, ug, vg] = [
      factor(part(given[0])), factor(part(given[1])), factor(-part(given[2])), factor(-part(given[3])),
    ];
    const gain = factor(full ? 65536 : 76309);
    const black = full ? 0 : 128;
    const made = new Uint8ClampedArray(width * height * 3);
    const step = nv12 ? 2 : 1;
    const [uPlane, vPlane] = nv12
      ? [layout[1], { offset: layout[1].offset + 1, stride: layout[1].stride }]
      : [layout[1], layout[2]];
    for (let y = 0, i = 0; y < height; y++) {
      const line = layout[0].offset + y * layout[0].stride;
      const us = uPlane.offset + (y >> 1) * uPlane.stride;
      const vs = vPlane.offset + (y >> 1) * vPlane.stride;
      for (let x = 0; x < width; x++, i += 3) {
        const grey = ((data[line + x] * 8 - black) * gain) >> 16;
        const u = data[us + (x >> 1) * step] * 8 - 1024;
        const v = data[vs + (x >> 1) * step] * 8 - 1024;
        made[i] = grey + ((v * vr) >> 16);
        made[i + 1] = grey + ((u * ug) >> 16) + ((v * vg) >> 16);
        made[i + 2] = grey + ((u * ub) >> 16);
      }
    }
    return { width, height, channels: 3, data: new Uint8Array(made.buffer) };
  }

  const TURNS = { 0: 1, 90: 6, 180: 3, 270: 8 };

  /** The frame that a video shows: {image, time, exact}; `colours` overrides its own tags. */
  async function grab(video, colours) {
    if (typeof VideoFrame === "function") {
      const frame = new VideoFrame(video);
      try {
        const time = frame.timestamp / 1e6;
        if (frame.format === "I420" || frame.format === "NV12") {
          const data = new Uint8Array(frame.allocationSize());
          const layout = await frame.copyTo(data);
          const { width, height } = frame.visibleRect;
          const own = frame.colorSpace ?? {};
          const tags = colours ?? { matrix: NAMED[own.matrix] ?? 2, full: own.fullRange === true };
          const nv12 = frame.format === "NV12";
          let image = fromPlanes({ data, layout, width, height, nv12 }, tags);
          image = turned(image, TURNS[frame.rotation ?? 0] ?? 1);
          if (frame.flip) image = turned(image, 2);
          return { image, time, exact: height % 2 === 0 && width % 2 === 0 };
        }
      } finally {
        frame.close();
      }
    }
    const { videoWidth: width, videoHeight: height } = video;
    const image = toRgb(byCanvas(video, width, height), width, height);
    return { image, time: video.currentTime, exact: false };
  }

  function event(target, name) {
    return new Promise((resolve, reject) => {
      const done = (settle) => () => {
        target.removeEventListener(name, good);
        target.removeEventListener("error", bad);
        settle();
      };
      const good = done(resolve);
      const bad = done(() => reject(new Unreadable("this browser cannot decode it")));
      target.addEventListener(name, good);
      target.addEventListener("error", bad);
    });
  }

  /**
   * Read evenly spaced frames: {frames: [{frame, time, image}], scale, notes}. `progress` is called
   * with the share that is done.
   */
  async function readVideo(file, count, progress) {
    const known = await readMp4(file);
    const address = URL.createObjectURL(file);
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "auto" });
    const notes = [];
    try {
      const loaded = event(video, "loadeddata");
      video.src = address;
      try {
        await loaded;
      } catch {
        throw new Unreadable("neither a picture nor a video that this browser can decode");
      }
      if (!video.videoWidth) throw new Unreadable("it holds no video");
      if (video.videoWidth * video.videoHeight > MOST)
        throw new Unreadable(`frames of ${video.videoWidth} x ${video.videoHeight} are too large`);
      const shots = known && known.times.length ? exactly(known.times, count) : evenly(video, count);
      if (!known) notes.push("its frames are not listed as in an MP4: those at even times are taken, which need not be those of tokd detect");
      const frames = [];
      let [inexact, missed] = [0, 0];
      for (const shot of shots) {
        const sought = event(video, "seeked");
        video.currentTime = shot.at;
        await sought;
        let { image, time, exact } = await grab(video, known?.colours);
        // A busy browser may show a frame some time after it has sought it.
        for (let n = 0; known && Math.abs(time - shot.time) > shot.near && n < RETRIES; n++) {
          await new Promise((resolve) => setTimeout(resolve, 50));
          ({ image, time, exact } = await grab(video, known.colours));
        }
        inexact += !exact;
        missed += known !== null && Math.abs(time - shot.time) > shot.near;
        frames.push({ frame: shot.frame, time: shot.time, image });
        progress(frames.length / shots.length);
      }
      if (missed) notes.push(`${missed} of ${frames.length} frames are not those that were asked for`);
      if (inexact) notes.push("its colours are the browser's, off FFmpeg's by some levels");
      const { width, height } = frames[0].image;
      const scale = Math.min(1, Math.sqrt(BUDGET / (count * width * height * 3)));
      if (scale < 1)
        for (const one of frames) {
          const size = [width, height].map((v) => Math.max(1, Math.trunc(v * scale)));
          one.image = tokd.area(one.image, ...size);
        }
      return { frames, notes };
    } finally {
      video.removeAttribute("src");
      video.load();
      URL.revokeObjectURL(address);
    }
  }

  /** Where to seek for frames of known times: the middle of the interval in which one is shown. */
  function exactly(times, count) {
    return evenlySpaced(times.length, count).map((n) => {
      const [time, next] = [times[n], times[n + 1] ?? 2 * times[n] - (times[n - 1] ?? times[n])];
      const near = Math.max((next - time) / 2, FEWEST_SECONDS);
      return { frame: n, time, at: time + near, near };
    });
  }

  function evenly(video, count) {
    if (!Number.isFinite(video.duration)) throw new Unreadable("it does not say how long it is");
    return Array.from({ length: count }, (_, n) => {
      const time = (video.duration * (2 * n + 1)) / (2 * count);
      return { frame: n, time, at: time, near: Infinity };
    });
  }

  Object.assign(tokd, { readVideo, readMp4, grab, fromPlanes });
})();
