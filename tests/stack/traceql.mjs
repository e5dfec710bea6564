// Reads TraceQL queries (a JSON list on stdin) by Grafana's own grammar and prints, for each, the number of errors and
// the comparisons that its one spanset joins with &&. Anything else in a query is an error here.
import { parser } from "@grafana/lezer-traceql";
import { readFileSync } from "node:fs";

function read(query) {
  const found = { errors: 0, comparisons: [] };
  const text = (node) => query.slice(node.from, node.to);
  parser.parse(query).iterate({
    enter(cursor) {
      const { node } = cursor;
      if (node.type.isError || ["Or", "Pipe", "Descendant", "Child"].includes(node.name)) found.errors += 1;
      if (node.name !== "FieldExpression") return;
      const operator = node.getChild("FieldOp");
      const sides = node.getChildren("FieldExpression");
      if (operator && sides.length === 2) found.comparisons.push([text(sides[0]), text(operator), text(sides[1])]);
    },
  });
  return found;
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(read)));
