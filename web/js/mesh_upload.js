// An upload button on Load Mesh. The page's own upload serves pictures, audio and video; for meshes
// it is tied to core's Load 3D node.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NODE = "RefAny3D_LoadMesh";
const FORMATS = ".glb,.gltf,.obj,.fbx,.ply,.stl,.off,.dae,.3mf";
const FOLDER = "3d";

async function upload(file) {
  const body = new FormData();
  body.append("image", file);
  body.append("type", "input");
  body.append("subfolder", FOLDER);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) {
    throw new Error(`${file.name}: ${answer.status} ${answer.statusText}`);
  }
  const { name, subfolder } = await answer.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

function chooseMesh(widget) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = FORMATS;
  input.onchange = async () => {
    try {
      const name = await upload(input.files[0]);
      if (!widget.options.values.includes(name)) {
        widget.options.values.push(name);
      }
      widget.value = name;
      widget.callback?.(name);
      app.graph.setDirtyCanvas(true, true);
    } catch (error) {
      alert(`Load Mesh: the upload failed. ${error.message}`);
    }
  };
  input.click();
}

app.registerExtension({
  name: "RefAny3D.MeshUpload",
  nodeCreated(node) {
    const widget = node.comfyClass === NODE && node.widgets?.find((w) => w.name === "mesh_file");
    if (!widget) {
      return;
    }
    // The Vue page shows its own upload for this input, so there the button is hidden.
    const options = { serialize: false, canvasOnly: true };
    const button = node.addWidget("button", "upload mesh", null, () => chooseMesh(widget), options);
    button.serialize = false;
  },
});
