// Renders and lints a Helm chart with what Helm itself renders with: Go's text/template and Sprig.
//
// Helm's own program is in no package registry that is at hand. What it adds to the two is small
// and stands here: include, required, fail, tpl, toYaml, toJson, fromYaml, lookup, the merge of
// values, and the objects .Values, .Release, .Chart, .Template and .Capabilities.
//
//	render CHART < {"values": {}, "name": "demo", "namespace": "agents"} > {"FILE": "TEXT"}
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type order struct {
	Values    map[string]interface{} `json:"values"`
	Name      string                 `json:"name"`
	Namespace string                 `json:"namespace"`
}

type chart struct {
	folder  string
	about   map[string]interface{}
	root    *template.Template
	started map[string]int
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder string) error {
	var wanted order
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		return fmt.Errorf("the order is no JSON: %w", err)
	}
	about, err := readYaml(filepath.Join(folder, "Chart.yaml"))
	if err != nil {
		return err
	}
	values, err := readYaml(filepath.Join(folder, "values.yaml"))
	if err != nil {
		return err
	}
	made := &chart{folder: folder, about: about, started: map[string]int{}}
	texts, err := made.render(merged(values, wanted.Values), wanted)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(texts)
}

func (c *chart) render(values map[string]interface{}, wanted order) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(c.folder, "templates", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	// As in Helm, a key that is missing prints nothing, and what is read below it is an error.
	c.root = template.New("chart").Option("missingkey=zero").Funcs(c.functions())
	names := []string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := filepath.Join(fmt.Sprint(c.about["name"]), "templates", filepath.Base(path))
		if _, err := c.root.New(name).Parse(string(text)); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	texts := map[string]string{}
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "_") {
			continue
		}
		var text bytes.Buffer
		if err := c.root.ExecuteTemplate(&text, name, c.facts(values, wanted, name)); err != nil {
			return nil, err
		}
		// Helm prints this for a key that is missing, and takes it out again.
		texts[name] = strings.ReplaceAll(text.String(), "<no value>", "")
	}
	return texts, nil
}

func (c *chart) facts(values map[string]interface{}, wanted order, name string) map[string]interface{} {
	// .Chart has the fields of Helm's struct, which begin with a capital.
	about := map[string]interface{}{}
	for key, value := range c.about {
		about[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return map[string]interface{}{
		"Values": values,
		"Chart":  about,
		"Release": map[string]interface{}{
			"Name": wanted.Name, "Namespace": wanted.Namespace, "Service": "Helm",
			"IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
		"Template": map[string]interface{}{
			"Name": name, "BasePath": filepath.Dir(name),
		},
		"Capabilities": map[string]interface{}{
			"KubeVersion": map[string]interface{}{"Version": "v1.31.0", "Major": "1", "Minor": "31"},
		},
	}
}

func (c *chart) functions() template.FuncMap {
	functions := sprig.TxtFuncMap()
	// Helm has no functions that read the environment.
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, facts interface{}) (string, error) {
		if c.started[name] > 100 {
			return "", fmt.Errorf("%s includes itself without an end", name)
		}
		c.started[name]++
		defer func() { c.started[name]-- }()
		var text bytes.Buffer
		err := c.root.ExecuteTemplate(&text, name, facts)
		return text.String(), err
	}
	functions["tpl"] = func(text string, facts interface{}) (string, error) {
		copied, err := c.root.Clone()
		if err != nil {
			return "", err
		}
		parsed, err := copied.New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var written bytes.Buffer
		err = parsed.Execute(&written, facts)
		return written.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if text, isText := value.(string); value == nil || (isText && text == "") {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	functions["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	functions["fromYaml"] = func(text string) map[string]interface{} {
		value := map[string]interface{}{}
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			value["Error"] = err.Error()
		}
		return value
	}
	functions["lookup"] = func(string, string, string, string) map[string]interface{} {
		return map[string]interface{}{}
	}
	return functions
}

func readYaml(path string) (map[string]interface{}, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value := map[string]interface{}{}
	if err := yaml.UnmarshalStrict(text, &value); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return value, nil
}

// merged lays values over defaults: tables are merged, null removes, anything else replaces.
func merged(defaults, values map[string]interface{}) map[string]interface{} {
	result := map[string]interface{}{}
	for key, value := range defaults {
		result[key] = value
	}
	for key, value := range values {
		below, isTable := value.(map[string]interface{})
		under, wasTable := result[key].(map[string]interface{})
		switch {
		case value == nil:
			delete(result, key)
		case isTable && wasTable:
			result[key] = merged(under, below)
		default:
			result[key] = value
		}
	}
	return result
}
