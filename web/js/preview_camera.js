// Preview 3D draws with a field of view of 35 degrees whatever the camera it is given says, but
// follows the camera's zoom: the zoom that shows the same as the camera's own field of view.
import { app } from "../../../scripts/app.js";

const VIEWERS = ["Preview3D", "Preview3DAnimation", "Preview3DAdvanced"];
const PAGE_FOV = 35;
const halfTangent = (degrees) => Math.tan((degrees * Math.PI) / 360);

app.registerExtension({
  name: "RefAny3D.PreviewCamera",
  nodeCreated(node) {
    if (!VIEWERS.includes(node.comfyClass)) {
      return;
    }
    const shown = node.onExecuted;
    node.onExecuted = function (message) {
      for (const camera of message?.result ?? []) {
        if (camera?.position && camera.fov && camera.zoom === 1) {
          camera.zoom = halfTangent(PAGE_FOV) / halfTangent(camera.fov);
        }
      }
      return shown?.apply(this, arguments);
    };
  },
});
