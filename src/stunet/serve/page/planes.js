// The scan in three planes, with labels over it.

import { DRAG_MODE, NVImage, Niivue, SLICE_TYPE } from "./niivue/niivue.js";
import { LabelImage } from "./labelimage.js";

const BACKGROUND = [0.043, 0.055, 0.071, 1];
const CROSS = [0.5, 0.86, 0.9, 0.8];

const SINGLE = { axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL, sagittal: SLICE_TYPE.SAGITTAL };

/** A quarter for each plane; the last one, top right, is free for the picture in 3D. */
const QUARTERS = [
  { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.5, 0.5] },
  { sliceType: SLICE_TYPE.CORONAL, position: [0, 0.5, 0.5, 0.5] },
  { sliceType: SLICE_TYPE.SAGITTAL, position: [0.5, 0.5, 0.5, 0.5] },
];

export class Planes {
  /** `onLocation` hears {mm, value, label} of the cross whenever it moves. */
  constructor(canvas, onLocation) {
    this.canvas = canvas;
    this.reference = null;
    this.niivue = new Niivue({
      backColor: BACKGROUND,
      crosshairColor: CROSS,
      crosshairWidth: 0.3,
      crosshairWidthUnit: "percent",
      crosshairGap: 1.5,
      dragAndDropEnabled: false,
      fontColor: [0.8, 0.86, 0.88, 1],
      isForceMouseClickToVoxelCenters: true,
      isRadiologicalConvention: true,
      logLevel: "error",
      measureLineColor: [1, 0.85, 0.2, 1],
      measureTextColor: [1, 0.85, 0.2, 1],
      multiplanarEqualSize: true,
      showAllOrientationMarkers: true,
    });
    this.niivue.onLocationChange = ({ mm, values }) =>
      onLocation({ mm: [...mm].slice(0, 3), value: values[0]?.value, label: values[1]?.value });
  }

  /** Show a scan and its labels, both NIfTI files; `range` as for setWindow. */
  async open(scan, labels, structures, range, opacity) {
    await this.niivue.attachToCanvas(this.canvas);
    performance.mark("WebGL ready");
    this.scan = await NVImage.loadFromUrl({ url: scan, name: "scan.nii.gz" });
    performance.mark("scan unpacked");
    this.ownRange = [this.scan.cal_min, this.scan.cal_max];
    this.setRange(range);
    this.labels = await LabelImage.read(labels, structures);
    this.labels.image.opacity = opacity;
    performance.mark("labels unpacked");
    this.niivue.customLayout = QUARTERS;
    this.upload();
    this.niivue.createOnLocationChange();
  }

  /** Replace an overview by the whole scan and its labels, {values, asOutlines, opacity} as before. */
  async refine(scan, labels, structures, drawing) {
    const whole = await NVImage.loadFromUrl({ url: scan, name: "scan.nii.gz" });
    this.labels = await LabelImage.read(labels, structures);
    this.labels.draw(drawing());
    [whole.cal_min, whole.cal_max] = [this.scan.cal_min, this.scan.cal_max];
    this.scan = whole;
    const place = this.niivue.frac2mm(this.niivue.scene.crosshairPos);
    this.upload();
    this.moveTo([...place].slice(0, 3));
  }

  /** Give the images to the graphics card, all at once. */
  upload() {
    const images = [this.scan, this.labels.image, ...(this.reference ? [this.reference.image] : [])];
    this.niivue.volumes = images.slice(0, -1);
    this.niivue.addVolume(images.at(-1));
  }

  setLayout(name) {
    if (name in SINGLE) {
      this.niivue.customLayout = null;
      this.niivue.setSliceType(SINGLE[name]);
    } else this.niivue.setCustomLayout(QUARTERS);
  }

  /** The lowest and the highest value that differ from black and white; null for what suits this scan. */
  setWindow(range) {
    this.setRange(range);
    this.niivue.updateGLVolume();
  }

  setRange(range) {
    [this.scan.cal_min, this.scan.cal_max] = range ?? this.ownRange;
  }

  /** Lay reference labels over the result; `draw` shows them. */
  async openReference(buffer, structures) {
    if (this.reference) this.niivue.removeVolume(this.reference.image);
    this.reference = await LabelImage.read(buffer, structures);
    this.niivue.addVolume(this.reference.image);
  }

  /** Draw the labels, and the reference where there is one: each {values, asOutlines, opacity}. */
  draw(result, reference) {
    this.labels.draw(result);
    this.reference?.draw(reference);
    this.niivue.updateGLVolume();
  }

  jumpTo(structure) {
    this.moveTo(this.labels.placeIn(structure));
  }

  moveTo(mm) {
    this.niivue.scene.crosshairPos = this.niivue.mm2frac(mm);
    this.niivue.drawScene();
    this.niivue.createOnLocationChange();
  }

  /** Move the cross by whole voxels along the patient's axes: to the left, to the front, to the head. */
  step(left, front, head) {
    this.niivue.moveCrosshairInVox(-left, front, head);
  }

  setMeasuring(on) {
    this.niivue.opts.dragModePrimary = on ? DRAG_MODE.measurement : DRAG_MODE.crosshair;
    if (!on) this.niivue.clearMeasurements();
  }
}
