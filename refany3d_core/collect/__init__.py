"""From pictures to triplets: source, boxes, masks, a graph on servers, pose, filters, export."""
