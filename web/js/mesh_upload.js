// Meshes into Load Mesh: an upload button, and files dropped on the node or on the empty canvas.
// Several files at once (OBJ with MTL and textures, glTF with its buffers) go into one folder.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NODE = "RefAny3D_LoadMesh";
const MESHES = [".glb", ".gltf", ".obj", ".fbx", ".ply", ".stl", ".off", ".dae", ".3mf"];
const BESIDE = [".mtl", ".bin", ".png", ".jpg", ".jpeg", ".webp", ".tga", ".bmp", ".ktx2"];
const FOLDER = "3d";

const ending = (file) => file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
const isMesh = (file) => MESHES.includes(ending(file));

async function upload(file, subfolder, overwrite) {
  const body = new FormData();
  body.append("image", file);
  body.append("type", "input");
  body.append("subfolder", subfolder);
  if (overwrite) {
    body.append("overwrite", "true");
  }
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) {
    throw new Error(`${file.name}: ${answer.status} ${answer.statusText}`);
  }
  const { name, subfolder: folder } = await answer.json();
  return folder ? `${folder}/${name}` : name;
}

// The mesh among the files, with its companions beside it under their own names.
async function uploadTogether(files, taken) {
  const mesh = files.find(isMesh);
  if (!mesh) {
    throw new Error(`none of the files is a mesh (${MESHES.join(" ")})`);
  }
  const beside = files.filter((file) => file !== mesh && BESIDE.includes(ending(file)));
  if (!beside.length) {
    return upload(mesh, FOLDER, false);
  }
  const stem = `${FOLDER}/${mesh.name.slice(0, mesh.name.lastIndexOf("."))}`;
  let folder = stem;
  for (let n = 2; taken.some((name) => name.startsWith(`${folder}/`)); n++) {
    folder = `${stem} ${n}`; // another mesh of that name keeps its files
  }
  for (const file of beside) {
    await upload(file, folder, true);
  }
  return upload(mesh, folder, true);
}

async function loadInto(node, files) {
  try {
    const widget = node.widgets.find((w) => w.name === "mesh_file");
    const name = await uploadTogether([...files], widget.options.values);
    if (!widget.options.values.includes(name)) {
      widget.options.values.push(name);
    }
    widget.value = name;
    widget.callback?.(name);
    app.graph.setDirtyCanvas(true, true);
  } catch (error) {
    alert(`Load Mesh: the upload failed. ${error.message}`);
  }
}

function chooseMesh(node) {
  const input = document.createElement("input");
  input.type = "file";
  input.multiple = true;
  input.accept = [...MESHES, ...BESIDE].join(",");
  input.onchange = () => loadInto(node, input.files);
  input.click();
}

// A mesh dropped beside all nodes makes a Load Mesh node there. Before the page's own handler,
// which takes a dropped file for a workflow.
function dropOnCanvas(event) {
  const files = [...(event.dataTransfer?.files ?? [])];
  if (!files.some(isMesh)) {
    return;
  }
  const [x, y] = app.canvas.convertEventToCanvasOffset(event);
  if (app.canvas.graph.getNodeOnPos(x, y)) {
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  const node = LiteGraph.createNode(NODE);
  app.canvas.graph.add(node);
  node.pos = [x, y];
  loadInto(node, files);
}

app.registerExtension({
  name: "RefAny3D.MeshUpload",
  setup() {
    window.addEventListener("drop", dropOnCanvas, true);
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE || !node.widgets?.some((w) => w.name === "mesh_file")) {
      return;
    }
    // The Vue page shows its own upload for this input, so there the button is hidden.
    const options = { serialize: false, canvasOnly: true };
    const button = node.addWidget("button", "upload mesh", null, () => chooseMesh(node), options);
    button.serialize = false;
    node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some((i) => i.kind === "file");
    node.onDragDrop = (event) => {
      const files = [...(event.dataTransfer?.files ?? [])];
      if (!files.some(isMesh)) {
        return false;
      }
      loadInto(node, files);
      return true;
    };
  },
});
