package dashboards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	statpanel "github.com/grafana/grafana-foundation-sdk/go/stat"
	tablepanel "github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// builder is what the builders of all kinds of panels have in common.
type builder[B any] interface {
	cog.Builder[dashboard.Panel]
	Id(uint32) B
	Title(string) B
	Description(string) B
	Datasource(common.DataSourceRef) B
	GridPos(dashboard.GridPos) B
	Targets([]cog.Builder[variants.Dataquery]) B
	Unit(string) B
	Thresholds(cog.Builder[dashboard.ThresholdsConfig]) B
}

// begin sets what all panels have.
func begin[B builder[B]](b B, p panel, id uint32, at dashboard.GridPos) B {
	return b.Id(id).Title(p.title).Description(p.description).Datasource(datasource()).GridPos(at).
		Targets(p.targets()).Unit(p.unit).Thresholds(thresholds(p.warn, p.bad))
}

func thresholds(warn, bad float64) cog.Builder[dashboard.ThresholdsConfig] {
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps(warn, bad))
}

func steps(warn, bad float64) []dashboard.Threshold {
	all := []dashboard.Threshold{{Color: "green"}}
	if warn != 0 {
		all = append(all, dashboard.Threshold{Value: cog.ToPtr(warn), Color: "yellow"})
	}
	if bad != 0 {
		all = append(all, dashboard.Threshold{Value: cog.ToPtr(bad), Color: "red"})
	}
	return all
}

func (p panel) build(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
	latest := common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})
	switch p.kind {
	case stat:
		return begin(statpanel.NewPanelBuilder(), p, id, at).ReduceOptions(latest).
			Orientation(common.VizOrientationAuto).GraphMode(common.BigValueGraphModeArea)
	case bars:
		return begin(bargauge.NewPanelBuilder(), p, id, at).ReduceOptions(latest).
			Orientation(common.VizOrientationHorizontal).Min(0)
	case heat:
		return p.heatmap(id, at)
	case table:
		return p.table(id, at)
	}
	return p.lines(id, at)
}

func (p panel) lines(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
	b := begin(timeseries.NewPanelBuilder(), p, id, at).AxisSoftMin(0).LineWidth(1).FillOpacity(8).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
			Placement(common.LegendPlacementBottom).Calcs([]string{"lastNotNull", "max"})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.kind == stacked {
		b.FillOpacity(40).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	if p.warn != 0 || p.bad != 0 {
		b.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return b
}

func (p panel) heatmap(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
	return begin(heatmap.NewPanelBuilder(), p, id, at).Calculate(false).
		Color(heatmap.NewHeatmapColorOptionsBuilder().Mode(heatmap.HeatmapColorModeScheme).Scheme("Spectral").
			Scale(heatmap.HeatmapColorScaleExponential).Exponent(0.5).Steps(64)).
		YAxis(heatmap.NewYAxisConfigBuilder().Unit(p.unit).AxisPlacement(common.AxisPlacementLeft)).
		Tooltip(heatmap.NewHeatmapTooltipBuilder().Mode(common.TooltipDisplayModeSingle)).ShowLegend()
}

// table shows a query per column, joined by the labels that they have in common, sorted
// by the first column.
func (p panel) table(id uint32, at dashboard.GridPos) cog.Builder[dashboard.Panel] {
	hidden, names := map[string]bool{"Time": true}, map[string]string{}
	b := begin(tablepanel.NewPanelBuilder(), p, id, at).Footer(common.NewTableFooterOptionsBuilder().Reducer([]string{"sum"}))
	for i, c := range p.columns {
		// Grafana leaves the letter out where there is one query.
		for _, value := range []string{"Value", fmt.Sprintf("Value #%c", 'A'+i)} {
			if len(p.columns) > 1 && value == "Value" {
				continue
			}
			if c.title == "" {
				hidden[value] = true
				continue
			}
			names[value] = c.title
		}
		properties := []dashboard.DynamicConfigValue{{Id: "unit", Value: c.unit}}
		if c.warn != 0 || c.bad != 0 {
			properties = append(properties,
				dashboard.DynamicConfigValue{Id: "thresholds", Value: dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: steps(c.warn, c.bad)}},
				dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]string{"type": "color-text"}})
		}
		b.OverrideByName(c.title, properties)
	}
	if p.columns[0].title != "" {
		b.SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName(p.columns[0].title).Desc(!p.ascending)})
	}
	if p.link != "" {
		b.OverrideByName("instance", []dashboard.DynamicConfigValue{{Id: "links", Value: []map[string]string{{
			"title": "Why: ${__value.text}",
			"url":   "/d/" + p.link + "?${datasource:queryparam}&${cluster:queryparam}&${job:queryparam}&var-instance=${__value.raw}&${__url_time_range}",
		}}}})
	}
	return b.
		WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}}).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{"excludeByName": hidden, "renameByName": names}})
}
