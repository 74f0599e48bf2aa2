package introspect

import "time"

// PipelineGVisor is the receiver of gVisor's sandboxes.
type PipelineGVisor struct {
	Endpoint    string            `json:"endpoint"`
	Dropped     uint64            `json:"dropped"`
	Malformed   map[string]uint64 `json:"malformed"`
	Rejected    map[string]uint64 `json:"rejected"`
	Connections []PipelineSandbox `json:"connections"`
	Orphans     []PipelineOrphan  `json:"orphans"`
}

// PipelineSandbox is one sandbox that is connected.
type PipelineSandbox struct {
	Sandbox     string    `json:"sandbox"` // id, "" while nothing has named it
	Peer        string    `json:"peer"`
	Since       time.Time `json:"since"`
	LastMessage time.Time `json:"last_message,omitzero"`
	Messages    uint64    `json:"messages"`
	Malformed   uint64    `json:"malformed"`
	Dropped     uint64    `json:"dropped"` // by the sandbox
	Silent      bool      `json:"silent"`  // connected for a minute without a word
}

// PipelineOrphan is a sandbox that was connected before the sensor was restarted,
// still runs, and will not connect again.
type PipelineOrphan struct {
	Sandbox string    `json:"sandbox"`
	Since   time.Time `json:"since"`
}
