// A label map as NiiVue draws it, of which structures can be hidden.

import { NVImage } from "./niivue/niivue.js";
import { filtered, keeping, nearestVoxel, outlined, thinned } from "./labelmap.js";

/** NIfTI's code of a label map; NiiVue then neither interpolates nor blends values. */
const INTENT_LABEL = 1002;

export class LabelImage {
  /** Read a NIfTI file; `structures` have value and color. */
  static async read(buffer, structures, name = "labels.nii.gz") {
    const image = await NVImage.loadFromUrl({ url: buffer, name });
    image.hdr.intent_code = INTENT_LABEL;
    image.setColormapLabel(colours(structures));
    return new LabelImage(image);
  }

  /** The same labels with fewer than `most` voxels: every second one along each axis, or every third, ... */
  async atMost(most, structures) {
    const step = Math.ceil(Math.cbrt(this.labels.length / most));
    if (step < 2) return this;
    const { labels, dims } = thinned(this.labels, this.dims, step);
    const { affine, datatypeCode, pixDims } = this.image.hdr;
    const spacing = pixDims.slice(1, 4).map((mm) => mm * step);
    const coarse = affine.flatMap(([a, b, c, d]) => [a * step, b * step, c * step, d]);
    const file = NVImage.createNiftiArray(dims, spacing, coarse, datatypeCode, new Uint8Array(labels.buffer));
    return LabelImage.read(file.buffer, structures, "labels.nii");
  }

  constructor(image) {
    this.image = image;
    this.labels = image.img;
  }

  get dims() {
    return this.image.hdr.dims.slice(1, 4);
  }

  /** Draw only structures of these values, whole or as outlines. */
  draw({ values, asOutlines, opacity }) {
    const shown = filtered(this.labels, keeping(values));
    this.image.img = asOutlines ? outlined(shown, this.dims) : shown;
    this.image.opacity = opacity;
  }

  /** A place (mm) inside a structure, near its centroid. */
  placeIn({ value, centroid }) {
    return nearestVoxel(this.labels, this.dims, this.image.hdr.affine, value, centroid) ?? centroid;
  }
}

function colours(structures) {
  const channel = (start) => structures.map(({ color }) => parseInt(color.slice(start, start + 2), 16));
  return {
    R: [0, ...channel(1)],
    G: [0, ...channel(3)],
    B: [0, ...channel(5)],
    A: [0, ...structures.map(() => 255)],
    I: [0, ...structures.map(({ value }) => value)],
  };
}
