// Reads a JSON array of LogQL expressions from standard input, and answers with an array of trees as Grafana's own
// grammar sees them: [name, from, to, [children]]; the name of what the grammar does not understand is "⚠".
const { parser } = require("@grafana/lezer-logql");

function tree(node) {
  const children = [];
  for (let child = node.firstChild; child; child = child.nextSibling) children.push(tree(child));
  return [node.type.isError ? "⚠" : node.name, node.from, node.to, children];
}

const expressions = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(expressions.map((expression) => tree(parser.parse(expression).topNode))));
