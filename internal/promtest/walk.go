package promtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// walk goes through one expression from its leaves up: what labels each part may
// have, and what is wrong with it.
type walk struct {
	catalogue *Catalogue
	faults    []string
}

func (w *walk) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// labels returns the labels that the result of a part may have, in order.
func (w *walk) labels(expr parser.Expr) []string {
	switch e := expr.(type) {
	case *parser.VectorSelector:
		return w.selector(e)
	case *parser.MatrixSelector:
		return w.labels(e.VectorSelector)
	case *parser.SubqueryExpr:
		return w.labels(e.Expr)
	case *parser.ParenExpr:
		return w.labels(e.Expr)
	case *parser.UnaryExpr:
		return w.labels(e.Expr)
	case *parser.StepInvariantExpr:
		return w.labels(e.Expr)
	case *parser.AggregateExpr:
		return w.aggregate(e)
	case *parser.BinaryExpr:
		return w.binary(e)
	case *parser.Call:
		return w.call(e)
	}
	return nil // numbers and texts
}

func (w *walk) selector(e *parser.VectorSelector) []string {
	s, known := w.catalogue.series[e.Name]
	if !known {
		w.fault("no metric %s", e.Name)
		return nil
	}
	for _, m := range e.LabelMatchers {
		values, has := s.labels[m.Name]
		switch {
		case m.Name == model.MetricNameLabel:
		case !has:
			w.fault("%s has no label %s", e.Name, m.Name)
		case values != nil && !slices.ContainsFunc(values, m.Matches):
			w.fault("%s: no value of label %s matches %s", e.Name, m.Name, m)
		}
	}
	return slices.Sorted(maps.Keys(s.labels))
}

func (w *walk) aggregate(e *parser.AggregateExpr) []string {
	inner := w.labels(e.Expr)
	for _, l := range e.Grouping {
		if !slices.Contains(inner, l) {
			w.fault("nothing in %s has label %s", e.Expr, l)
		}
	}
	switch {
	case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
		return inner
	case e.Without:
		return minus(inner, e.Grouping)
	}
	return e.Grouping
}

func (w *walk) binary(e *parser.BinaryExpr) []string {
	left, right := w.labels(e.LHS), w.labels(e.RHS)
	if e.VectorMatching == nil { // a number on one side at least
		if e.LHS.Type() == parser.ValueTypeScalar {
			return right
		}
		return left
	}
	match := e.VectorMatching
	for _, l := range match.MatchingLabels {
		// What is ignored needs to be on one side only.
		if l, r := slices.Contains(left, l), slices.Contains(right, l); !l && !r || match.On && l != r {
			w.fault("%s is matched by a label that is not there", e)
		}
	}
	switch {
	case e.Op == parser.LAND || e.Op == parser.LUNLESS || match.Card == parser.CardManyToOne:
		return union(left, match.Include)
	case e.Op == parser.LOR:
		return union(left, right)
	case match.Card == parser.CardOneToMany:
		return union(right, match.Include)
	case match.On:
		return match.MatchingLabels
	}
	return minus(left, match.MatchingLabels)
}

func (w *walk) call(e *parser.Call) []string {
	var labels []string
	for _, arg := range e.Args {
		labels = union(labels, w.labels(arg))
	}
	w.misused(e)
	switch e.Func.Name {
	case "histogram_quantile":
		return minus(labels, []string{"le"})
	case "label_replace", "label_join":
		if dst, ok := e.Args[1].(*parser.StringLiteral); ok {
			return union(labels, []string{dst.Val})
		}
	}
	return labels
}

// misused notices functions of histograms that are given something else, and rates
// of what does not count.
func (w *walk) misused(call *parser.Call) {
	parser.Inspect(call, func(node parser.Node, _ []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		allowed := []kind{unknown, counter, histogram, bucket}
		switch name := call.Func.Name; {
		case name == "histogram_quantile":
			allowed = []kind{unknown, histogram, bucket}
		case strings.HasPrefix(name, "histogram_"):
			allowed = []kind{unknown, histogram}
		case name != "rate" && name != "increase" && name != "irate":
			return nil
		}
		if s, known := w.catalogue.series[v.Name]; known && !slices.Contains(allowed, s.kind) {
			w.fault("%s of %s, which is of another kind", call.Func.Name, v.Name)
		}
		return nil
	})
}

func minus(labels, without []string) []string {
	return slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return slices.Contains(without, l) })
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}
