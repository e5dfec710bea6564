// Shows one Perses dashboard, read only, as the Perses server would, with Prometheus behind /prometheus.
// It has no server of its own: tools/render_dashboards.py bundles it, serves it and takes its picture.
import { ThemeProvider } from '@mui/material';
import { ChartsProvider, SnackbarProvider, generateChartsTheme, getTheme } from '@perses-dev/components';
import { Dashboard, DashboardProvider, DatasourceStoreProvider, VariableList, VariableProvider } from '@perses-dev/dashboards';
import * as markdown from '@perses-dev/markdown-plugin';
import { DataQueriesProvider, PluginRegistry, TimeRangeProvider, ValidationProvider, dynamicImportPluginLoader } from '@perses-dev/plugin-system';
import * as prometheus from '@perses-dev/prometheus-plugin';
import * as stat from '@perses-dev/stat-chart-plugin';
import * as table from '@perses-dev/table-plugin';
import * as timeseries from '@perses-dev/timeseries-chart-plugin';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import React from 'react';
import { createRoot } from 'react-dom/client';

const plugins = [markdown, prometheus, stat, table, timeseries];
const loader = dynamicImportPluginLoader(
  plugins.map((plugin) => ({ resource: plugin.getPluginModule(), importPlugin: () => Promise.resolve(plugin) })),
);
const source = {
  kind: 'GlobalDatasource',
  metadata: { name: 'prometheus' },
  spec: { default: true, plugin: { kind: 'PrometheusDatasource', spec: { directUrl: '/prometheus', scrapeInterval: '15s' } } },
};
const sources = {
  getDatasource: async () => undefined,
  getGlobalDatasource: async () => source,
  listDatasources: async () => [],
  listGlobalDatasources: async () => [source],
  buildProxyUrl: () => '/prometheus',
};
const client = new QueryClient({ defaultOptions: { queries: { refetchOnWindowFocus: false, retry: 0 } } });
const theme = getTheme('light');
const within = (parent, Provider, props) => <Provider {...props}>{parent}</Provider>;

function Page({ dashboard, range }) {
  const { name, description } = dashboard.spec.display;
  const body = (
    <div style={{ padding: 12, fontFamily: 'Lato, sans-serif', background: '#f4f5f7' }}>
      <h2 style={{ margin: '0 0 4px' }}>{name}</h2>
      <p style={{ margin: '0 0 12px' }}>{description}</p>
      <div style={{ display: 'flex', gap: 8, marginBottom: 12 }}><VariableList /></div>
      <Dashboard />
    </div>
  );
  return [
    [DashboardProvider, { initialState: { dashboardResource: dashboard, isEditMode: false } }],
    [DatasourceStoreProvider, { dashboardResource: dashboard, datasourceApi: sources }],
    [VariableProvider, { initialVariableDefinitions: dashboard.spec.variables }],
    [TimeRangeProvider, { timeRange: range, refreshInterval: '0s', setTimeRange() {}, setRefreshInterval() {} }],
    [QueryClientProvider, { client }],
    [PluginRegistry, { pluginLoader: loader, defaultPluginKinds: { Panel: 'TimeSeriesChart', TimeSeriesQuery: 'PrometheusTimeSeriesQuery' } }],
    [SnackbarProvider, {}],
    [ChartsProvider, { chartsTheme: generateChartsTheme(theme, {}) }],
    [ThemeProvider, { theme }],
  ].reduce((inner, [Provider, props]) => within(inner, Provider, props), body);
}

const asked = new URLSearchParams(location.search);
const dashboard = await (await fetch(`/${asked.get('dashboard')}.json`)).json();
const range = { pastDuration: asked.get('duration') ?? dashboard.spec.duration };
createRoot(document.getElementById('page')).render(<Page dashboard={dashboard} range={range} />);

// What the tool reads of the page: how high it is, and which panels show an error or no number.
setTimeout(() => {
  const panels = [...document.querySelectorAll('[data-testid="panel"]')];
  const wrong = panels
    .filter((panel) => /No data/.test(panel.innerText) || panel.querySelector('[role="alert"]'))
    .map((panel) => panel.innerText.replace(/\s+/g, ' ').slice(0, 200));
  document.body.dataset.height = document.getElementById('page').scrollHeight;
  document.body.dataset.wrong = wrong.join('\t');
}, 15000);
