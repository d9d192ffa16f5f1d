// The structures in 3D, without the scan.

import { Niivue, SLICE_TYPE } from "./niivue/niivue.js";
import { LabelImage } from "./labelimage.js";

/** From the front and slightly above. */
const VIEWPOINT = [160, 12];

const SHADING = 0.6;

const SCALE = 1.2;

export class Solid {
  constructor(canvas) {
    this.canvas = canvas;
    this.labels = null;
    this.niivue = new Niivue({
      backColor: [0.043, 0.055, 0.071, 1],
      dragAndDropEnabled: false,
      gradientOrder: 2,
      isOrientationTextVisible: false,
      logLevel: "error",
      sliceType: SLICE_TYPE.RENDER,
    });
  }

  /** Show an overview of the labels: more voxels would hardly be seen in this small picture. */
  async open(labels, structures) {
    await this.niivue.attachToCanvas(this.canvas);
    await this.niivue.setVolumeRenderIllumination(SHADING);
    this.labels = await LabelImage.read(labels, structures);
    this.niivue.scene.volScaleMultiplier = SCALE;
    this.niivue.addVolume(this.labels.image);
    this.niivue.setRenderAzimuthElevation(...VIEWPOINT);
  }

  /** Draw only structures of these values. */
  draw(values) {
    if (!this.labels) return;
    this.labels.draw({ values, asOutlines: false, opacity: 1 });
    this.niivue.updateGLVolume();
  }
}
