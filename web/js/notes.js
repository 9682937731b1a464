// Shows the sentences that a node reports as `notes` in a box on the node. They are part of its ui
// output, so they come again with a cached run, after a reload of the page too. The page's own
// progress text would not do: newer pages clear it when the run ends.
import { app } from "../../../scripts/app.js";
import { ComfyWidgets } from "../../../scripts/widgets.js";

const NAME = "notes";

function show(node, notes) {
  let widget = node.widgets?.find((w) => w.name === NAME);
  if (!notes.length) {
    if (widget) {
      node.removeWidget(widget);
    }
    return;
  }
  if (!widget) {
    ({ widget } = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app));
    widget.serialize = widget.options.serialize = false; // neither in workflows nor in prompts
    widget.options.read_only = true;
    widget.element.readOnly = true;
    const least = node.computeSize();
    node.setSize([Math.max(node.size[0], least[0]), Math.max(node.size[1], least[1])]);
  }
  widget.value = notes.join("\n");
  node.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "RefAny3D.Notes",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("RefAny3D_")) {
      return;
    }
    const shown = node.onExecuted;
    node.onExecuted = function (output) {
      const answer = shown?.apply(this, arguments);
      if (output?.notes) {
        show(this, output.notes);
      }
      return answer;
    };
  },
});
