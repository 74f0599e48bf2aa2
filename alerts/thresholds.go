package alerts

// Thresholds that alerts and dashboards share, so that a panel turns red where the
// alert fires.
const (
	LossRatio     = 0.01   // of the events, at one stage
	LossBudget    = 0.001  // of the events, over 30 days: 99.9 % arrive
	RingFill      = 0.8    // of a ring, at its peak
	MapFill       = 0.9    // of a map or a table
	QueueFill     = 0.4    // of a queue: the least important events are let in up to a half
	MemoryFill    = 0.9    // of the memory limit
	DelaySeconds  = 5.0    // from the kernel to user space, 99th percentile
	CPUCores      = 0.5    // in user space
	BPFCores      = 0.5    // in the kernel
	ThrottleRatio = 0.25   // of the time
	ScrapeSeconds = 3.0    // for one scrape
	ScrapeSamples = 20_000 // in one scrape
	LookupErrors  = 0.05   // of the calls to a container runtime
)
