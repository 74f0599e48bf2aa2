package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// newEnv declares the fields.
func newEnv() (*cel.Env, error) {
	var options []cel.EnvOption
	for i := range fields {
		options = append(options, cel.Variable(fields[i].name, fields[i].kind))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("make the environment of rules: %w", err)
	}
	return env, nil
}

// compile makes the program of a condition and checks what it may cost. A field that
// none of the points has is a fault: the condition could never hold.
func compile(env *cel.Env, condition string, points []event.Point) (cel.Program, error) {
	ast, issues := env.Compile(condition)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("condition: it is a %s, not true or false", ast.OutputType())
	}
	if err := checkFields(ast, points); err != nil && len(points) > 0 {
		return nil, err
	}
	cost, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, fmt.Errorf("condition: estimate cost: %w", err)
	}
	if cost.Max > MaxCost {
		return nil, fmt.Errorf("condition: it may cost %d units: at most %d", cost.Max, MaxCost)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	return program, nil
}

func checkFields(ast *cel.Ast, points []event.Point) error {
	var faults []error
	for _, reference := range ast.NativeRep().ReferenceMap() {
		i, ok := fieldIndex[reference.Name]
		if !ok {
			continue
		}
		if f := &fields[i]; len(f.points) > 0 && !slices.ContainsFunc(points, func(p event.Point) bool { return slices.Contains(f.points, p) }) {
			faults = append(faults, fmt.Errorf("condition: %s is not a field of those points", f.name))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(slices.CompactFunc(faults, func(a, b error) bool { return a.Error() == b.Error() })...)
}

// sizes tells how long the texts of events can be.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	if len(path) == 0 {
		return nil
	}
	i, ok := fieldIndex[path[0]]
	if !ok {
		return nil
	}
	most := fields[i].size
	if len(path) > 1 { // an element of a list: together they are no longer than the list's text
		most = event.ArgsLen
	}
	return &checker.SizeEstimate{Min: 0, Max: uint64(most)}
}

// EstimateCallCost implements checker.CostEstimator.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
