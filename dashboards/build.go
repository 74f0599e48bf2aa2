package dashboards

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// tag is what the dashboards find each other by.
const tag = "sonde"

// datasource is the one that the reader chose.
func datasource() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// JSON returns the dashboards by file name, indented, in the classic form that Grafana
// loads since version 10.3.
func JSON() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, b := range all() {
		built, err := b.build()
		if err != nil {
			return nil, fmt.Errorf("build dashboard %s: %w", b.uid, err)
		}
		content, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("encode dashboard %s: %w", b.uid, err)
		}
		files[strings.TrimPrefix(b.uid, "sonde-")+".json"] = append(content, '\n')
	}
	return files, nil
}

// The classic form is deprecated for one that only Grafana 13 takes in all ways of
// loading.
type (
	classic        = dashboard.Dashboard        //nolint:staticcheck // see above
	classicBuilder = dashboard.DashboardBuilder //nolint:staticcheck // see above
)

func (b board) build() (classic, error) {
	d := dashboard.NewDashboardBuilder(b.title) //nolint:staticcheck // see above
	d.Uid(b.uid).Description(b.description).Tags([]string{tag}).Readonly().
		Refresh("30s").Time("now-1h", "now").Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("Sonde").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{tag}).AsDropdown(true).IncludeVars(true).KeepTime(true))
	for _, v := range b.allVariables() {
		d.WithVariable(v)
	}
	for _, a := range annotations() {
		d.Annotation(a)
	}
	b.layOut(d)
	built, err := d.Build()
	if err != nil {
		return built, err
	}
	// The builder hides links and annotations in a menu of new versions, and refuses
	// any other place.
	for i := range built.Links {
		built.Links[i].Placement = nil
	}
	for i := range built.Annotations.List {
		built.Annotations.List[i].Placement = nil
	}
	return built, nil
}

// layOut places rows and panels and numbers them, so that links to a panel last.
func (b board) layOut(d *classicBuilder) {
	const columns = 24
	id, y := uint32(1), uint32(0)
	for _, r := range b.rows {
		d.WithRow(dashboard.NewRowBuilder(r.title).Id(id).GridPos(dashboard.GridPos{X: 0, Y: y, W: columns, H: 1}))
		id, y = id+1, y+1
		x, tallest := uint32(0), uint32(0)
		for _, p := range r.panels {
			if x+p.width > columns {
				x, y, tallest = 0, y+tallest, 0
			}
			d.WithPanel(p.build(id, dashboard.GridPos{X: x, Y: y, W: p.width, H: p.height}))
			id, x, tallest = id+1, x+p.width, max(tallest, p.height)
		}
		y += tallest
	}
}

func (b board) allVariables() []cog.Builder[dashboard.VariableModel] {
	all := []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"),
		choice(variable{"cluster", "Cluster", ""}, "label_values(up, cluster)", ".*"),
		choice(variable{"job", "Job", ""}, `label_values(sonde_build_info{cluster=~"$cluster"}, job)`, ".+"),
		choice(variable{"instance", "Instance", ""}, `label_values(up{cluster=~"$cluster", job=~"$job"}, instance)`, ".+"),
	}
	for _, v := range b.variables {
		all = append(all, choice(v, fmt.Sprintf("label_values(%s, %s)", expand(v.metric+"{F}"), v.name), ".+"))
	}
	return all
}

func choice(v variable, query, every string) cog.Builder[dashboard.VariableModel] {
	return dashboard.NewQueryVariableBuilder(v.name).Label(v.label).Datasource(datasource()).
		Query(dashboard.StringOrMap{Map: map[string]any{"query": query, "refId": v.name, "qryType": 1}}).Definition(query).
		Multi(true).IncludeAll(true).AllValue(every).
		Current(dashboard.VariableOption{
			Selected: cog.ToPtr(true),
			Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
			Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc)
}

func annotations() []cog.Builder[dashboard.AnnotationQuery] {
	return []cog.Builder[dashboard.AnnotationQuery]{
		dashboard.NewAnnotationQueryBuilder().Name("Alerts").Datasource(datasource()).Enable(true).IconColor("red").
			Expr(firing).TitleFormat("{{alertname}}").TextFormat("{{instance}}").Step("60s"),
		dashboard.NewAnnotationQueryBuilder().Name("Starts").Datasource(datasource()).Enable(true).IconColor("blue").
			Expr(expand(`changes(process_start_time_seconds{F}[2m]) > 0`)).TitleFormat("Sensor started").TextFormat("{{instance}}").Step("60s"),
	}
}

// targets are the queries of a panel, named A, B, C. Numbers of the present are asked
// for one moment, all others over time.
func (p panel) targets() []cog.Builder[variants.Dataquery] {
	var all []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().Datasource(datasource()).RefId(string(rune('A' + i))).
			Expr(expand(q.expr)).LegendFormat(q.legend)
		switch p.kind {
		case table:
			t.Instant().Format(prometheus.PromQueryFormatTable)
		case bars:
			t.Instant().Format(prometheus.PromQueryFormatTimeSeries)
		case heat:
			t.Range().Format(prometheus.PromQueryFormatHeatmap)
		default:
			t.Range().Format(prometheus.PromQueryFormatTimeSeries)
		}
		all = append(all, t)
	}
	return all
}
