"""One picture in many encodings, and videos of many kinds, for the page and `tokd detect`."""

import subprocess

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> what undoes it."""


def pictures(folder, face, scene):
    """Write a face, and a scene with one in it (RGB arrays), in every kind; return the files."""
    image, wide = Image.fromarray(face), Image.fromarray(scene)
    made = []

    def save(name, picture=image, **options):
        made.append(folder / name)
        picture.save(made[-1], **options)

    save("444.jpg", quality=92, subsampling=0)
    save("422.jpg", quality=85, subsampling=1)
    save("420.jpg", quality=80, subsampling=2)
    save("scene.jpg", wide, quality=90)
    save("progressive.jpg", wide.crop((0, 0, wide.width - 3, wide.height - 5)), progressive=True)
    save("grey.jpg", image.convert("L"))
    save("cmyk.jpg", image.convert("CMYK"))
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        save(f"turn{turn}.jpg", wide.transpose(BACK[turn]), exif=exif, quality=95)
    save("rgb.png")
    save("scene.png", wide)
    save("grey.png", image.convert("L"))
    save("palette.png", image.quantize(200))
    save("one.png", image.convert("1"))
    sixteen = np.asarray(image.convert("L"), np.uint16) * 257
    save("sixteen.png", Image.fromarray(sixteen))
    clear = image.convert("RGBA")
    clear.putalpha(
        Image.fromarray(np.tile(np.arange(face.shape[1]) % 256, (len(face), 1)).astype(np.uint8))
    )
    save("alpha.png", clear)
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100000).to_bytes(4, "big"))
    save("gamma.png", pnginfo=gamma)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save("profile.jpg", icc_profile=profile, quality=95)
    save("plain.gif", image.convert("P", palette=Image.Palette.ADAPTIVE))
    save("plain.bmp")
    save("lossy.webp", quality=85)
    save("lossless.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("turned.webp", wide.transpose(BACK[6]), exif=exif, lossless=True)
    save("plain.avif", quality=80)
    save("small.png", image.resize((57, 57)))
    save("large.jpg", wide.resize((wide.width * 3, wide.height * 3)), quality=85)
    save("moving.png", image, save_all=True, append_images=[wide.resize(image.size)])
    return made


def videos(folder, frames):
    """Write frames, ``(N, H, W, 3)`` of even size, as videos; return the files."""
    made = []

    def encode(name, *options, raw=frames, rate="25"):
        made.append(folder / name)
        _, height, width, _ = raw.shape
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt",
            "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-", *options, str(made[-1]),
        ]  # fmt: skip
        subprocess.run(command, input=np.ascontiguousarray(raw).tobytes(), check=True)

    h264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20")
    encode("plain.mp4", *h264)
    encode("ntsc.mp4", *h264, rate="30000/1001")
    tags = "colorprim=bt709:transfer=bt709:colormatrix=bt709"
    encode("bt709.mp4", *h264, "-x264-params", tags)
    encode("full.mp4", *h264[:3], "yuvj420p", "-x264-params", "fullrange=on")
    encode("large.mp4", *h264, "-vf", "scale=1280:-2")
    encode("uneven.mp4", *h264, "-vf", "setpts='(N+floor(N/3))/25/TB'", "-fps_mode", "vfr")
    encode("late.mp4", *h264, "-output_ts_offset", "1")
    encode("sideways.mp4", *h264, raw=np.rot90(frames, -1, (1, 2)))
    sideways = made.pop()
    made.append(folder / "turned.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-display_rotation", "90"]
    command += ["-i", str(sideways), "-c", "copy", str(made[-1])]
    subprocess.run(command, check=True)
    sideways.unlink()
    return made
