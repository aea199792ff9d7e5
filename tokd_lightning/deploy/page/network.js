"use strict";
// The network: from the pixels of a face to P(fake) and its heat map.

(() => {
  const { crop, area, cubic, pillow, square, smaller, follow, Detector, KEPT } = tokd;
  const f32 = Math.fround;

  /** Unpack base64 of gzip. */
  async function bytes(base64) {
    const text = atob(base64);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  const number = (value, low, high) => {
    if (typeof value !== "number" || !(value >= low && value <= high))
      throw new TypeError("not a number in its range");
    return value;
  };

  const whole = (value, low, high) => {
    if (!Number.isInteger(value)) throw new TypeError("not a whole number");
    return number(value, low, high);
  };

  /** Check what the page uses of model.json; raises a TypeError where it is not what it should be. */
  function readRecord(record) {
    const { input, face, threshold } = record;
    const three = (values, low) => {
      if (!Array.isArray(values) || values.length !== 3) throw new TypeError("not three numbers");
      return values.map((value) => f32(number(value, low, 1e6)));
    };
    const made = {
      name: String(record.name),
      size: whole(input.size, 1, 4096),
      crop: whole(input.crop, 1, input.size),
      mean: three(input.mean, -1e6),
      std: three(input.std, 1e-9),
      detector: String(face.detector),
      margin: number(face.margin, 0.01, 100),
      stored: face.stored === null ? null : whole(face.stored, 1, 4096),
      thresholds: {
        image: number(threshold.frame.value, 0, 1),
        video: number(threshold.video.value, 0, 1),
      },
    };
    if (String(record.classes) !== "real,fake") throw new TypeError("other classes");
    return made;
  }

  class Network {
    /** Open the runtime and the model; `parts` are {wasm, glue, model, cascade, record}. */
    static async open(parts, runtime) {
      const made = new Network();
      made.record = readRecord(parts.record);
      runtime.env.wasm.numThreads = 1;
      runtime.env.wasm.wasmBinary = (await bytes(parts.wasm)).buffer;
      const glue = new Blob([await bytes(parts.glue)], { type: "text/javascript" });
      runtime.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
      made.runtime = runtime;
      made.session = await runtime.InferenceSession.create(await bytes(parts.model), {
        executionProviders: ["wasm"],
      });
      made.detector = new Detector(new tokd.Cascade(parts.cascade));
      return made;
    }

    /** The face as the network takes it: RGB, size x size. `box` is [x, y, side], null the whole. */
    face(image, box) {
      const { size, stored } = this.record;
      let part = image;
      if (box !== null) {
        const [x, y, side] = box;
        const wanted = stored ?? size;
        part = crop(image, x, y, side, side);
        if (side !== wanted) part = (side > wanted ? area : cubic)(part, wanted, wanted);
      }
      return part.width === size && part.height === size ? part : pillow(part, size, size);
    }

    /** Score a face: {p, logits, heat, side}. */
    async score(face) {
      const { size, crop: side, mean, std } = this.record;
      const start = Math.floor((size - side) / 2);
      const values = new Float32Array(3 * side * side);
      for (let c = 0, i = 0; c < 3; c++)
        for (let y = 0; y < side; y++)
          for (let x = 0; x < side; x++, i++) {
            const value = face.data[((start + y) * size + start + x) * 3 + c];
            values[i] = f32(f32(value / 255) - mean[c]) / std[c];
          }
      const tensor = new this.runtime.Tensor("float32", values, [1, 3, side, side]);
      const { logits, heat_map: heat } = await this.session.run({ image: tensor });
      const [real, fake] = logits.data;
      const highest = Math.max(real, fake);
      const powers = [Math.exp(real - highest), Math.exp(fake - highest)];
      return {
        p: powers[1] / (powers[0] + powers[1]),
        logits: [real, fake],
        heat: Float32Array.from(heat.data),
        side: heat.dims[1],
      };
    }

    /** Whether pictures are taken whole, as the training frames were. */
    whole(kind, image) {
      const { detector, stored } = this.record;
      if (detector === "none") return stored === null;
      return kind === "image" && stored !== null && image.width === stored && image.height === stored;
    }

    /**
     * Find the face on pictures of one size: {boxes, notes}; `boxes` has [x, y, side], null for the
     * whole picture or undefined for no face, per picture.
     */
    async find(kind, frames, pause) {
      const { detector, margin } = this.record;
      const { width, height } = frames[0].image;
      if (this.whole(kind, frames[0].image)) {
        const taken = detector === "none" ? [] : ["taken whole: it has the size of a prepared frame"];
        return { boxes: frames.map(() => null), notes: taken };
      }
      if (detector === "none") {
        const middle = { x: 0.5, y: 0.5, side: Math.min(width, height) / width };
        return { boxes: frames.map(() => square(middle, width, height, 1)), notes: [] };
      }
      const shots = frames.map(({ frame, image }) => {
        const kept = frames.length > 1 ? KEPT : Math.min(width, height);
        const [picture, scale] = smaller(image, kept);
        return { frame, picture, scale };
      });
      const track = await follow(shots, width, height, this.detector, pause);
      if (track === null) return { boxes: frames.map(() => undefined), notes: ["no face was found"] };
      const notes = [];
      if (track.absent) notes.push(`no face on ${track.absent} of ${frames.length} frames, which are not scored`);
      if (kind === "image" && track.atOnce > 1) notes.push(`${track.atOnce} faces, the largest scored`);
      else if (track.others) notes.push(`${track.others} other faces are about as large, one is scored`);
      const boxes = frames.map(({ frame }) => {
        const at = track.frames.get(frame);
        return at === undefined ? undefined : square(at, width, height, margin);
      });
      return { boxes, notes };
    }
  }

  Object.assign(tokd, { Network, readRecord });
})();
