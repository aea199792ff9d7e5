"use strict";
// Pixels of a picture file as Pillow decodes them: upright, RGB, colours neither managed nor hidden.

(() => {
  const MOST = 50e6; // pixels

  class Unreadable extends Error {}

  /** Read a picture: {image, notes}. */
  async function readPicture(file) {
    const raw = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, raw);
    } catch {
      throw new Unreadable("this browser cannot decode it as a picture");
    }
    const { width, height } = bitmap;
    if (width * height > MOST)
      throw new Unreadable(`${width} x ${height} pixels are too many, at most ${MOST / 1e6} million`);
    const notes = [];
    let pixels = byTexture(bitmap);
    if (pixels === null) {
      pixels = byCanvas(bitmap);
      notes.push("decoded through a canvas: where it is transparent, P(fake) may differ from tokd detect");
    }
    bitmap.close();
    return { image: turned(toRgb(pixels, width, height), await webpTurn(file)), notes };
  }

  function toRgb(rgba, width, height) {
    const data = new Uint8Array(width * height * 3);
    for (let i = 0, j = 0; j < data.length; i += 4, j += 3) {
      data[j] = rgba[i];
      data[j + 1] = rgba[i + 1];
      data[j + 2] = rgba[i + 2];
    }
    return { width, height, channels: 3, data };
  }

  let context;

  /** RGBA without a change of any colour, by WebGL; null if it cannot. */
  function byTexture(bitmap) {
    const { width, height } = bitmap;
    context ??= document.createElement("canvas").getContext("webgl2") ?? false;
    const gl = context;
    if (!gl || gl.isContextLost() || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE))
      return null;
    const texture = gl.createTexture();
    const buffer = gl.createFramebuffer();
    try {
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
      gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
      gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
      const pixels = new Uint8Array(width * height * 4);
      gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
      return gl.getError() === gl.NO_ERROR ? pixels : null;
    } finally {
      gl.deleteFramebuffer(buffer);
      gl.deleteTexture(texture);
    }
  }

  function byCanvas(source, width = source.width, height = source.height) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const draw = canvas.getContext("2d", { willReadFrequently: true });
    draw.drawImage(source, 0, 0, width, height);
    return draw.getImageData(0, 0, width, height).data;
  }

  /** EXIF orientation of a WebP, which browsers leave alone; 1 for everything else. */
  async function webpTurn(file) {
    const head = new DataView(await file.slice(0, 16).arrayBuffer());
    if (head.byteLength < 16 || head.getUint32(8) !== 0x57454250) return 1;
    for (let at = 12; at + 8 <= file.size; ) {
      const chunk = new DataView(await file.slice(at, at + 8).arrayBuffer());
      const length = chunk.getUint32(4, true);
      if (chunk.getUint32(0) === 0x45584946)
        return orientation(await file.slice(at + 8, at + 8 + Math.min(length, 65536)).arrayBuffer());
      at += 8 + length + (length % 2);
    }
    return 1;
  }

  function orientation(content) {
    try {
      const all = new DataView(content);
      const start = all.getUint32(0) === 0x45786966 ? 6 : 0; // "Exif", two zeros
      const little = all.getUint16(start) === 0x4949;
      const table = start + all.getUint32(start + 4, little);
      for (let n = 0; n < all.getUint16(table, little); n++) {
        const entry = table + 2 + 12 * n;
        if (all.getUint16(entry, little) === 0x0112) return all.getUint16(entry + 8, little);
      }
    } catch {
      // damaged metadata of an intact picture
    }
    return 1;
  }

  /** Make an image upright, by the number of its EXIF orientation. */
  function turned(image, orientation) {
    if (!(orientation >= 2 && orientation <= 8)) return image;
    const { width: w, height: h, channels, data } = image;
    const sideways = orientation >= 5;
    const [width, height] = sideways ? [h, w] : [w, h];
    const from = {
      2: (x, y) => [w - 1 - x, y],
      3: (x, y) => [w - 1 - x, h - 1 - y],
      4: (x, y) => [x, h - 1 - y],
      5: (x, y) => [y, x],
      6: (x, y) => [y, h - 1 - x],
      7: (x, y) => [w - 1 - y, h - 1 - x],
      8: (x, y) => [w - 1 - y, x],
    }[orientation];
    const made = new Uint8Array(data.length);
    for (let y = 0, i = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const [p, q] = from(x, y);
        const at = (q * w + p) * channels;
        for (let c = 0; c < channels; c++) made[i++] = data[at + c];
      }
    return { width, height, channels, data: made };
  }

  Object.assign(tokd, { Unreadable, readPicture, toRgb, byCanvas, turned, MOST });
})();
