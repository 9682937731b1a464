// Shows the sentences that a node reports as `notes` under the node. They are part of its ui
// output, so they come again with a cached run, after a reload of the page too.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const shown = new Set();

function show({ detail }) {
  const notes = detail?.output?.notes;
  const nodeId = detail?.display_node ?? detail?.node;
  if (!notes || (!notes.length && !shown.has(nodeId))) {
    return;
  }
  notes.length ? shown.add(nodeId) : shown.delete(nodeId);
  // What the server's own send_progress_text does.
  const text = notes.join("\n");
  api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId, text } }));
}

app.registerExtension({
  name: "RefAny3D.Notes",
  setup() {
    api.addEventListener("executed", show);
  },
});
