// A label map as NiiVue draws it, of which structures can be hidden.

import { NVImage } from "./niivue/niivue.js";
import { filtered, keeping, nearestVoxel, outlined } from "./labelmap.js";

/** NIfTI's code of a label map; NiiVue then neither interpolates nor blends values. */
const INTENT_LABEL = 1002;

export class LabelImage {
  /** Read a NIfTI file; `structures` have value and color. */
  static async read(buffer, structures) {
    const image = await NVImage.loadFromUrl({ url: buffer, name: "labels.nii.gz" });
    image.hdr.intent_code = INTENT_LABEL;
    image.setColormapLabel(colours(structures));
    return new LabelImage(image);
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
