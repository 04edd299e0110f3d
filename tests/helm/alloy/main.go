// Reads a configuration of Grafana Alloy with Alloy's own parser, and prints its blocks as JSON:
//
//	{"name": "loki.write", "label": "steward", "attributes": {"url": "\"http://...\""}, "blocks": [...]}
//
// It checks only the syntax and the names, not what the attributes mean to Alloy.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/grafana/alloy/syntax/ast"
	"github.com/grafana/alloy/syntax/parser"
	"github.com/grafana/alloy/syntax/printer"
)

type block struct {
	Name       string            `json:"name"`
	Label      string            `json:"label"`
	Attributes map[string]string `json:"attributes"`
	Blocks     []block           `json:"blocks"`
}

func read(name, label string, body ast.Body) (block, error) {
	found := block{Name: name, Label: label, Attributes: map[string]string{}, Blocks: []block{}}
	for _, statement := range body {
		switch each := statement.(type) {
		case *ast.AttributeStmt:
			var text bytes.Buffer
			if err := printer.Fprint(&text, each.Value); err != nil {
				return found, err
			}
			found.Attributes[each.Name.Name] = text.String()
		case *ast.BlockStmt:
			inner, err := read(strings.Join(each.Name, "."), each.Label, each.Body)
			if err != nil {
				return found, err
			}
			found.Blocks = append(found.Blocks, inner)
		default:
			return found, fmt.Errorf("a statement of the unexpected type %T", statement)
		}
	}
	return found, nil
}

func run() error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile("config.alloy", text)
	if err != nil {
		return err
	}
	found, err := read("", "", file.Body)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
