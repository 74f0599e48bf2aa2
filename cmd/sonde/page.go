package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// page is what a verb shows to people: tables and lines. The first error of writing
// is returned by flush.
type page struct {
	w      *tabwriter.Writer
	colour bool
}

func newPage(w io.Writer) *page {
	return &page{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), colour: isTerminal(w)}
}

// row writes one row of the table. Nothing in a cell reaches the terminal as a
// control character: names and arguments of processes are what strangers chose.
func (p *page) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(p.w, "\t")
		}
		if painted, ok := cell.(painted); ok {
			fmt.Fprint(p.w, painted)
			continue
		}
		fmt.Fprint(p.w, printable(fmt.Sprint(cell)))
	}
	fmt.Fprintln(p.w)
}

// gap ends a table; the columns of the next one are as wide as it needs.
func (p *page) gap() {
	fmt.Fprintln(p.w)
}

func (p *page) flush() error { return p.w.Flush() }

// painted is a text with the codes of its colour.
type painted string

// status paints a word by how good the news are. A column with such a word has
// nothing else, and its head is painted too, so that it stays aligned.
func (p *page) status(s status, word string) painted { return painted(paintAs(s, word, p.colour)) }

// head is the head of a column of such words.
func (p *page) head(word string) painted { return p.status("", word) }

// printable writes control characters as Go does, and an empty text as a dash.
func printable(text string) string {
	if text == "" {
		return "-"
	}
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// size writes a number of bytes with three digits at most before the point.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, i := float64(n), 0
	for value >= 1000 && i < len(units)-1 {
		value, i = value/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}

// sizeOf is size of a number that may not be known.
func sizeOf(n *uint64) string {
	if n == nil {
		return "unknown"
	}
	return size(*n)
}

// age writes how long ago something was, by its two largest units.
func age(d time.Duration) string {
	switch d = d.Truncate(time.Second); {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return d.String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
