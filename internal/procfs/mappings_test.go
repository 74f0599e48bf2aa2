package procfs

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMappings(t *testing.T) {
	got, err := parseMappings(strings.NewReader(`55d0-55d4 r--p 00000000 08:01 11                     /usr/bin/cat
55d4-55d9 r-xp 00004000 08:01 11                     /usr/bin/cat
7f00-7f01 rwxp 00000000 00:00 0 
7f10-7f20 r-xp 00026000 103:2a 12                     /opt/with space/lib.so (deleted)
ffff-10000 r-xp 00000000 00:00 0                      [vdso]
`))
	want := []Mapping{
		{0x55d4, 0x55d9, 0x4000, unix.Mkdev(8, 1), 11, "/usr/bin/cat"},
		{0x7f00, 0x7f01, 0, 0, 0, ""},
		{0x7f10, 0x7f20, 0x26000, unix.Mkdev(259, 42), 12, "/opt/with space/lib.so (deleted)"},
		{0xffff, 0x10000, 0, 0, 0, "[vdso]"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	many, err := parseMappings(strings.NewReader(strings.Repeat("1-2 r-xp 0 00:00 0 \n", MaxMappings+1)))
	if len(many) != MaxMappings || err != nil {
		t.Errorf("%d mappings, %v, want %d", len(many), err, MaxMappings)
	}
	for _, line := range []string{"x-2 r-xp 0 00:00 0\n", "1-2 r-xp 0 00 0\n", "1-2 r-xp 0 00:00 x\n", "1-2 r-xp\n"} {
		if _, err := parseMappings(strings.NewReader(line)); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	own, err := New(Options{}).Mappings(uint32(os.Getpid()))
	if err != nil || len(own) == 0 || own[0].Path == "" {
		t.Errorf("of this process: %v, %v", own, err)
	}
}
