package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// targets asks how many nodes the last scrapes found up and down.
func (p *server) targets(ctx context.Context) (up, down float64, err error) {
	if up, err = p.query(ctx, `count(up == 1) or vector(0)`); err != nil {
		return 0, 0, err
	}
	down, err = p.query(ctx, `count(up == 0) or vector(0)`)
	return up, down, err
}

// query returns the one value of an expression.
func (p *server) query(ctx context.Context, expression string) (float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/query?query="+url.QueryEscape(expression), nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var said struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		return 0, fmt.Errorf("query %s: %w", expression, err)
	}
	if len(said.Data.Result) != 1 {
		return 0, fmt.Errorf("query %s: %d values, want one", expression, len(said.Data.Result))
	}
	text, _ := said.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}
